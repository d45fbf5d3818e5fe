# shellcheck shell=bash
# What all servers share. For each NAME, NAME.sh must define:
#
#   NAME_port         the default client port
#   NAME_ports        the ports it opens, given the client port
#   NAME_env PORT     the LOCKSTEP_TEST_* variables and their values, each on a line of its own
#   NAME_installed    succeeds when the programs are there
#   NAME_install      puts them there
#   NAME_version      the version of the programs
#   NAME_prepare      makes what a start needs: the user, the data (once), the configuration (each time)
#   NAME_launch       starts it by spawn_server and returns at once
#   NAME_ready PORT   succeeds when it answers a client; must not block for more than a second or two
#   NAME_stop_signal  the signal of an orderly stop
#   NAME_sweep        if implemented, stops what the server leaves behind when it ends or is killed
#
# Below the base folder each server has NAME/: data, server.log, pid, port and version.

dir_of() { echo "$base/$1"; }
log_of() { echo "$base/$1/server.log"; }
pid_of() { recorded_pid "$base/$1/pid"; }

# configured_port NAME: default ports lie below the range from which the kernel takes ports for outgoing connections.
configured_port() {
  local variable=LOCKSTEP_PORT_${1^^}
  echo "${!variable:-$("$1_port")}"
}

# port_of NAME: where it listens, or would; a running server keeps the port it was started with.
port_of() {
  if pid_of "$1" >/dev/null && [ -r "$base/$1/port" ]; then cat "$base/$1/port"; else configured_port "$1"; fi
}

# state_of NAME: up, paused, starting or down.
state_of() {
  local pid
  if ! pid=$(pid_of "$1"); then echo down
  elif is_stopped "$pid"; then echo paused
  elif "$1_ready" "$(port_of "$1")" >/dev/null 2>&1; then echo up
  else echo starting; fi
}

# spawn_server NAME USER COMMAND...
spawn_server() {
  local name=$1 user=$2; shift 2
  spawn "$base/$name/pid" "$(log_of "$name")" "$user" "$base/$name" "$@"
}

# make_user USER: not while a package is being installed, which may make the same one.
make_user() { locked apt make_user_locked "$1"; }

make_user_locked() {
  getent passwd "$1" >/dev/null || useradd --system --user-group --no-create-home --shell /usr/sbin/nologin "$1" \
    || die "cannot create the system user $1"
}

# make_dir USER NAME: the server's folder, which its user must be able to reach.
make_dir() {
  local user=$1 dir
  dir=$(dir_of "$2")
  install -d -o "$user" -g "$user" "$dir" || die "cannot create $dir"
  run_as "$user" test -x "$dir" && return
  die "user $user cannot enter $(first_closed "$user" "$dir"), which is on the way to its data: open it (chmod o+x) or set LOCKSTEP_SERVICES_DIR"
}

# first_closed USER DIR: the topmost folder on the way to DIR that USER cannot enter.
first_closed() {
  local path='' step
  while IFS= read -rd / step; do
    path+=$step/
    run_as "$1" test -x "$path" || { echo "$path"; return; }
  done <<<"$2/"
}

# check_settings: what would otherwise fail later and less clearly.
check_settings() {
  local name port
  [[ $base =~ ^[A-Za-z0-9_./@+-]+$ ]] \
    || die "the services folder \"$base\" has characters that the servers' configurations cannot carry: set LOCKSTEP_SERVICES_DIR to a plain path"
  [[ $limit =~ ^[1-9][0-9]{0,4}$ ]] || die "LOCKSTEP_SERVICES_TIMEOUT is \"$limit\": give it in whole seconds"
  for name in "${known_servers[@]}"; do
    port=$(configured_port "$name")
    [[ $port =~ ^[1-9][0-9]{0,4}$ && $port -le 65530 ]] || die "LOCKSTEP_PORT_${name^^} is \"$port\": give it a port from 1 to 65530"
  done
}

# check_ports NAME: all free, or a sentence that says which is not.
check_ports() {
  local port
  for port in $("$1_ports" "$(configured_port "$1")"); do
    is_listening "$port" && die "port $port, which $1 needs, is in use by another process: stop that process or set LOCKSTEP_PORT_${1^^} to another port"
  done
  return 0
}

# is_listening PORT: on any address. Asking the kernel instead of connecting also finds a listener that does not accept.
is_listening() {
  local hex
  printf -v hex '%04X' "$1"
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null \
    | awk -v hex="$hex" '$4 == "0A" && $2 ~ ":" hex "$" { found = 1 } END { exit !found }'
}

# require_debian_root DOING NAME...
require_debian_root() {
  local doing=$1 name variables=() out; shift
  for name in "$@"; do variables+=("LOCKSTEP_TEST_${name^^}"); done
  out="start the set of compose.yaml (docker compose up -d --wait) or export $(listed "${variables[@]}") for servers of your own"
  [ "$(id -u)" = 0 ] || die "cannot $doing $(listed "$@") because this user is not root: run as root, $out"
  is_debian || die "cannot $doing $(listed "$@") because this machine is not a Debian with apt: $out"
}

is_debian() { command -v apt-get >/dev/null && grep -q '^ID=debian$' /etc/os-release 2>/dev/null; }

# locked NAME COMMAND...: one change at a time for each server.
locked() {
  local name=$1 fd; shift
  mkdir -p "$base/locks" 2>/dev/null
  { exec {fd}>"$base/locks/$name"; } 2>/dev/null || die "cannot write below $base as user $(id -un): run as root or set LOCKSTEP_SERVICES_DIR"
  flock -w 900 "$fd" || die "another call has held the lock of $name for 15 minutes: see what it is doing, then try again"
  "$@"
  local status=$?
  exec {fd}>&-
  return $status
}
