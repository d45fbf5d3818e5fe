# shellcheck shell=bash
# What the program says: one sentence for each way it can end.

say() { printf 'services: %s\n' "$*" >&2; }

# die ends the current (sub)shell; every server is handled in a subshell of its own, so that one server's fault does
# not stop the others.
die() { say "$*"; exit 1; }

misuse() { say "$*"; exit 2; }

# die_with_log LOG SENTENCE...: the reason is in the server's own words, so show them.
die_with_log() {
  local log=$1; shift
  say "$*; the last lines of $log:"
  tail -n 20 -- "$log" 2>/dev/null | since_last_start | sed 's/^/  | /' >&2
  exit 1
}

# since_last_start: what an earlier run wrote would only mislead.
since_last_start() { awk '/^supervise: starting/ { text = ""; next } { text = text $0 "\n" } END { printf "%s", text }'; }

# listed WORD...: with commas.
listed() { local IFS=,; local words="$*"; echo "${words//,/, }"; }

# seconds_since START: with two digits, for people.
seconds_since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.2f", to - from }'; }

# quoted VALUE: safe for eval in any POSIX shell.
quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }
