# shellcheck shell=bash
# The commands of the program, named COMMAND_command.

# each_server COMMAND NAME...: at the same time, each in its own subshell; fails if one failed.
each_server() {
  local command=$1 name pids=() pid status=0; shift
  for name in "$@"; do
    ("$command" "$name") &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  return $status
}

# chosen [NAME...]: into the array names, checked, each once; none and "all" mean the default set.
chosen() {
  local name
  names=()
  [ $# -eq 0 ] && set -- all
  for name in "$@"; do
    case " ${known_servers[*]} all " in
      *" $name "*) ;;
      *) misuse "unknown server \"$name\": use ${known_servers[*]} or all" ;;
    esac
    if [ "$name" = all ]; then chosen_add "${default_servers[@]}"; else chosen_add "$name"; fi
  done
}

chosen_add() {
  local name
  for name in "$@"; do
    case " ${names[*]-} " in *" $name "*) ;; *) names+=("$name") ;; esac
  done
}

# ---- up, install

up_command() {
  local missing=() name
  chosen "$@"
  for name in "${names[@]}"; do pid_of "$name" >/dev/null || missing+=("$name"); done
  [ ${#missing[@]} -eq 0 ] || { require_debian_root start "${missing[@]}" && say_base; }
  each_server up_server "${names[@]}"
}

install_command() {
  local missing=() name
  chosen "$@"
  for name in "${names[@]}"; do "${name}_installed" || missing+=("$name"); done
  [ ${#missing[@]} -eq 0 ] || { require_debian_root install "${missing[@]}" && say_base; }
  each_server install_server "${names[@]}"
}

up_server() {
  local name=$1 ready_in installed_in=''
  if pid_of "$name" >/dev/null; then
    await_running "$name"
    report_up "$name" "already up"
    return
  fi
  locked "$name" start_server "$name"
  report_up "$name" "ready in $ready_in s$installed_in"
}

report_up() { printf '%-10s %-12s port %-5s pid %-7s %s\n' "$1" "$(cat "$base/$1/version")" "$(port_of "$1")" "$(pid_of "$1")" "$2"; }

# start_server NAME: under its lock; sets ready_in. The pid is looked at again: another call may have been faster.
start_server() {
  local name=$1 began
  install_missing "$name"
  began=$EPOCHREALTIME
  if pid_of "$name" >/dev/null; then
    await_running "$name"
  else
    launch_server "$name"
  fi
  ready_in=$(seconds_since "$began")
}

launch_server() {
  local name=$1
  sweep "$name"
  check_ports "$name"
  "${name}_prepare" || die "cannot prepare $name"
  "${name}_version" >"$base/$name/version"
  configured_port "$name" >"$base/$name/port"
  "${name}_launch" || die_with_log "$(log_of "$name")" "cannot launch $name"
  await_ready "$name" || give_up "$name"
}

# await_running NAME: for a server that somebody else started, and may have paused.
await_running() {
  local pid
  pid=$(pid_of "$1") && is_stopped "$pid" && die "$1 is paused: run \"scripts/services resume $1\" first"
  await_ready "$1" || die_with_log "$(log_of "$1")" "$1 runs but did not answer on port $(port_of "$1") within $limit s"
}

# await_ready NAME
await_ready() {
  local name=$1 end=$((SECONDS + limit)) port
  port=$(port_of "$name")
  until "${name}_ready" "$port" >/dev/null 2>&1; do
    pid_of "$name" >/dev/null || die_with_log "$(log_of "$name")" "$name ended while it was starting"
    [ "$SECONDS" -ge "$end" ] && return 1
    sleep 0.05
  done
}

# give_up NAME: a half-started server would only make the next try harder to understand.
give_up() {
  kill_server "$1"
  die_with_log "$(log_of "$1")" "$1 did not become ready within $limit s and was killed (LOCKSTEP_SERVICES_TIMEOUT gives it longer)"
}

install_server() {
  local name=$1 installed_in=', was installed already'
  "${name}_installed" || locked "$name" install_missing "$name"
  printf '%-10s %s%s\n' "$name" "$("${name}_version")" "$installed_in"
}

# install_missing NAME: sets installed_in.
install_missing() {
  local began=$EPOCHREALTIME
  "$1_installed" && return
  "$1_install" || die "cannot install $1: see the messages above"
  "$1_installed" || die "cannot install $1: its programs are not where its package puts them"
  installed_in=", installed in $(seconds_since "$began") s"
}

# ---- down

down_command() { chosen "$@"; [ $# -gt 0 ] || names=("${known_servers[@]}"); each_server down_server "${names[@]}"; }

down_server() {
  local name=$1 began=$EPOCHREALTIME
  if pid_of "$name" >/dev/null; then
    locked "$name" stop_server "$name"
    printf '%-10s stopped in %s s\n' "$name" "$(seconds_since "$began")"
  fi
  sweep "$name"
}

stop_server() {
  local name=$1 pid
  pid=$(pid_of "$name") || return 0
  signal "$name" "-$("${name}_stop_signal")" "$pid"
  thaw "$pid" 2>/dev/null
  wait_until "$limit" gone "$pid" && wait_until 10 reaped "$pid" && return
  kill_server "$name"
  die "$name did not stop within $limit s and was killed"
}

sweep() { if declare -F "$1_sweep" >/dev/null; then "$1_sweep"; fi; }

# ---- faults

kill_command() { at_least_one kill "$@"; each_server kill_server "${names[@]}"; }
pause_command() { at_least_one pause "$@"; each_server pause_server "${names[@]}"; }
resume_command() { at_least_one resume "$@"; each_server resume_server "${names[@]}"; }

at_least_one() {
  local command=$1; shift
  [ $# -gt 0 ] || misuse "$command needs the name of a server: ${known_servers[*]}"
  chosen "$@"
}

# running_pid NAME
running_pid() { pid_of "$1" || die "$1 is not running under $base"; }

# signal NAME SIGNAL PID
signal() { kill "$2" "$3" 2>/dev/null || die "cannot signal $1 (process $3): only root and its own user can"; }

# kill_server NAME: the tree is frozen first, so that no part of it sees another part die and acts on it; a crash of the
# machine would not let it either.
kill_server() {
  local name=$1 pid all child
  pid=$(running_pid "$name") || exit 1
  signal "$name" -STOP "$pid"
  all=$(freeze "$pid")
  # shellcheck disable=SC2086 # a list of numbers
  kill -KILL $all 2>/dev/null
  wait_until 15 reaped "$pid" || die "$name (process $pid) was killed but its parent does not reap it"
  for child in $all; do wait_until 15 gone "$child" || die "$name was killed but its process $child is still there"; done
}

pause_server() {
  local pid all
  pid=$(running_pid "$1") || exit 1
  signal "$1" -STOP "$pid"
  all=$(freeze "$pid")
  # shellcheck disable=SC2086 # a list of numbers
  wait_until 15 still $all || die "$1 (process $pid) was told to stop and goes on"
}

resume_server() {
  local pid
  pid=$(running_pid "$1") || exit 1
  signal "$1" -CONT "$pid"
  thaw "$pid" 2>/dev/null
  return 0
}

# ---- control

rabbitmqctl_command() {
  [ $# -gt 0 ] || misuse "rabbitmqctl needs a command of its own, for example list_queues"
  running_pid rabbitmq >/dev/null || exit 1
  rabbitmq_control "$@"
}

# ---- status, env

status_command() {
  local format=text name args=()
  for name in "$@"; do
    if [ "$name" = --json ]; then format=json; else args+=("$name"); fi
  done
  chosen ${args[@]+"${args[@]}"}
  [ ${#args[@]} -gt 0 ] || names=("${known_servers[@]}")
  "status_$format"
}

status_text() {
  local name
  for name in "${names[@]}"; do
    # shellcheck disable=SC2046,SC2183 # one word each
    printf '%-10s %-8s %-12s port %-5s pid %s\n' "$name" $(status_of "$name")
  done
}

status_json() {
  local name state version port pid separator='['
  for name in "${names[@]}"; do
    read -r state version port pid < <(status_of "$name")
    [ "$version" = - ] && version=
    [ "$pid" = - ] && pid=null
    printf '%s{"name":"%s","state":"%s","version":"%s","port":%s,"pid":%s}' "$separator" "$name" "$state" "$version" "$port" "$pid"
    separator=$',\n '
  done
  printf ']\n'
}

# status_of NAME: state, version, port, pid; "-" for what there is not.
status_of() {
  local version=-
  [ -s "$base/$1/version" ] && read -r version _ <"$base/$1/version"
  echo "$(state_of "$1") $version $(port_of "$1") $(pid_of "$1" || echo -)"
}

env_command() {
  local name line
  if [ $# -gt 0 ]; then chosen "$@"; else running_servers; fi
  for name in "${names[@]}"; do
    while read -r line; do export_line "$line"; done < <("${name}_env" "$(port_of "$name")")
  done
  export_line "LOCKSTEP_TEST_SERVICES $program"
}

export_line() { printf 'export %s=%s\n' "${1%% *}" "$(quoted "${1#* }")"; }

# running_servers: into the array names. A paused server counts: a test that pauses it still wants its address.
running_servers() {
  local name
  names=()
  for name in "${known_servers[@]}"; do
    pid_of "$name" >/dev/null && names+=("$name")
  done
  [ ${#names[@]} -gt 0 ] || die "no server is up under $base: run \"scripts/services up\", or name servers that run elsewhere, as in \"env all\""
}
