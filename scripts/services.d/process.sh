# shellcheck shell=bash
# Processes: starting them detached, finding them again, signalling whole trees.
# Only /proc and util-linux: a bare Debian has no ps.

# run_as USER COMMAND...
run_as() {
  local user=$1; shift
  setpriv --reuid="$user" --regid="$user" --init-groups -- "$@"
}

# spawn PIDFILE LOG USER DIR COMMAND...: start COMMAND detached from the caller, with a clean environment, and return
# once its pid file is written. The caller's descriptors are closed first: a server that held them would keep
# $(services up) from returning and a lock from being released.
spawn() {
  local pidfile=$1 log=$2 user=$3 dir=$4; shift 4
  local clean=(env -i "PATH=$PATH" "HOME=$dir" LANG=C.UTF-8 TZ=UTC)
  rm -f -- "$pidfile"
  (
    local fd
    for fd in /proc/"$BASHPID"/fd/*; do
      fd=${fd##*/}
      [ "$fd" -gt 2 ] && eval "exec $fd>&-"
    done
    cd "$dir" || exit 1
    exec setsid --fork "${clean[@]}" "$parts/supervise" "$pidfile" \
      setpriv --reuid="$user" --regid="$user" --init-groups -- "$@"
  ) </dev/null >>"$log" 2>&1
  wait_until 10 test -s "$pidfile"
}

# wait_until SECONDS COMMAND...
wait_until() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -ge "$end" ] && return 1
    sleep 0.05
  done
}

# stat_of PID: the fields of /proc/PID/stat from the state on; the name before it may contain anything.
stat_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null; }

# recorded_pid PIDFILE: the pid, if that very process still runs. A zombie does not run.
recorded_pid() {
  local pid start stat fields
  [ -r "$1" ] && read -r pid start <"$1" && stat=$(stat_of "$pid") || return 1
  read -ra fields <<<"$stat"
  [ "${fields[19]:-}" = "$start" ] && [[ ${fields[0]} != [ZX] ]] && echo "$pid"
}

is_stopped() { [[ $(stat_of "$1") == [Tt]* ]]; }

# gone PID: reaped, or at least dead.
gone() { local stat; stat=$(stat_of "$1"); [[ -z $stat || $stat == [ZX]* ]]; }

reaped() { ! [ -e "/proc/$1" ]; }

# tree PID: the process and all its descendants. By parent, not by session: each PostgreSQL backend opens its own.
tree() {
  cat /proc/[0-9]*/stat 2>/dev/null | sed 's/(.*)/-/' | awk -v root="$1" '
    { parent[$1] = $4 }
    END {
      wanted[root] = 1
      for (grown = 1; grown; ) {
        grown = 0
        for (pid in parent) if (!(pid in wanted) && parent[pid] in wanted) grown = wanted[pid] = 1
      }
      for (pid in wanted) if (pid in parent) print pid
    }'
}

# freeze PID: stop the whole tree, parents first, and look again until it holds still: a process that was just being
# forked is found in the next round. Prints the tree.
freeze() {
  local before='' now
  kill -STOP "$1" || return 1
  now=$(tree "$1")
  while [ "$now" != "$before" ]; do
    # shellcheck disable=SC2086 # a list of numbers
    kill -STOP $now 2>/dev/null
    before=$now
    now=$(tree "$1")
  done
  echo "$now"
}

# still PID...: every thread of the processes has stopped. A signal is only noted by whoever sends it: on a busy machine its
# receiver goes on for a while, and answers. (No grep -q: with pipefail its early end fails the pipeline that found something.)
still() {
  local pid moving
  for pid in "$@"; do
    moving=$(cat "/proc/$pid"/task/[0-9]*/stat 2>/dev/null | sed -n 's/.*) //; /^[^TtZX]/p')
    [ -z "$moving" ] || return 1
  done
}

# thaw PID
thaw() {
  # shellcheck disable=SC2046 # a list of numbers
  kill -CONT $(tree "$1")
}
