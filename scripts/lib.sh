# shellcheck shell=bash
# Sourced by the other scripts: where the tree is, which modules it holds, and how a phase is reported.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf "%s\n" "$@" >&2; }

die() {
  say "$*"
  exit 1
}

# phase NAME COMMAND… runs the command, says how long it took, and ends the script when it failed, so that the name of
# the phase that failed is the last thing seen.
phase() {
  local name=$1 begun=$SECONDS status=0
  shift
  say "==> $name"
  # A subshell of its own with errexit: inside an `if` or `||` bash would go on after a failing line of a function.
  set +e
  (
    set -e
    "$@"
  )
  status=$?
  set -e
  if [ "$status" -eq 0 ]; then
    outcome "$name: ok, $((SECONDS - begun)) s"
  else
    outcome "$name: FAILED, $((SECONDS - begun)) s"
    exit "$status"
  fi
}

not_run() { outcome "$1: not run ($2)"; }

# outcome says how a phase ended. Where LOCKSTEP_PHASES names a file the line is kept there too: .ci/run shows all of
# them at its end.
outcome() {
  say "<== $1"
  if [ -n "${LOCKSTEP_PHASES:-}" ]; then echo "$1" >>"$LOCKSTEP_PHASES"; fi
}

# modules prints the folder of every module in the tree, the root first. The tools are pinned in a module of their own
# that holds no code of ours.
modules() {
  find "$root" -mindepth 1 \( -name '.*' -o -path "$root/tools" -o -name testdata \) -prune -o \
    -name go.mod -printf '%d %h\n' | sort -n | cut -d' ' -f2-
}
