# shellcheck shell=bash
# RabbitMQ 4 and its Erlang, from Debian sid. The management API is on the client port + 1.
#
# Measured with 4.3.6: a quorum queue that is killed less than about a second after its declaration comes back empty, its
# confirmed messages with it ("configured member ... was not found on this node"). A test that kills the broker must let
# the declaration settle first; older queues keep what they confirmed.

rabbitmq_port() { echo 26672; }
rabbitmq_ports() { echo "$1 $(($1 + 1)) $(($1 + 2)) $(($1 + 3))"; }
rabbitmq_env() { echo "LOCKSTEP_TEST_RABBITMQ amqp://lockstep:lockstep@127.0.0.1:$1/"; }
rabbitmq_stop_signal() { echo TERM; }

rabbitmq_erlang() { echo "$base/rabbitmq/root/usr/lib/erlang"; }
rabbitmq_sbin() { find "$base/rabbitmq/root/usr/lib/rabbitmq/lib" -maxdepth 2 -path '*/rabbitmq_server-*/sbin' 2>/dev/null | sort -V | tail -n 1; }

rabbitmq_installed() { [ -x "$(rabbitmq_erlang)/bin/erl" ] && [ -x "$(rabbitmq_sbin)/rabbitmq-server" ]; }
rabbitmq_install() { sid_install rabbitmq rabbitmq-server; }
rabbitmq_sid_finish() {
  local erlang=$1/usr/lib/erlang
  sid_patch "$1" "$2" "$erlang"/erts-*/bin/* "$erlang"/lib/*/priv/bin/* \
    && sed -i "s#ROOTDIR=/usr/lib/erlang#ROOTDIR=$2/usr/lib/erlang#" "$erlang"/bin/erl "$erlang"/erts-*/bin/erl
}
rabbitmq_version() { rabbitmq_sbin | sed 's#.*/rabbitmq_server-\([^/]*\)/sbin#\1#'; }

rabbitmq_prepare() {
  local dir
  dir=$(dir_of rabbitmq)
  make_user rabbitmq
  make_dir rabbitmq rabbitmq
  install -d -o rabbitmq -g rabbitmq "$dir/data" "$dir/log"
  rabbitmq_configure "$dir" "$(configured_port rabbitmq)"
}

rabbitmq_configure() {
  local dir=$1 port=$2
  cat >"$dir/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$port
management.tcp.ip = 127.0.0.1
management.tcp.port = $((port + 1))
default_user = lockstep
default_pass = lockstep
vm_memory_high_watermark.absolute = 2GB
disk_free_limit.absolute = 200MB
log.file = false
log.console = true
log.console.level = warning
CONF
  echo '[rabbitmq_management].' >"$dir/enabled_plugins"
}

# rabbitmq_launch: with a port mapper of its own. The one that Erlang would start by itself listens on the standard port
# for all Erlang programs of the machine, and would be nobody's to stop. RUNNING_UNDER_SYSTEMD makes the package's script
# become the broker instead of waiting for it, so that our pid is the broker's.
rabbitmq_launch() {
  local dir port
  dir=$(dir_of rabbitmq)
  port=$(configured_port rabbitmq)
  spawn "$dir/epmd.pid" "$(log_of rabbitmq)" rabbitmq "$dir" \
    "$(find "$(rabbitmq_erlang)"/erts-*/bin/epmd | tail -n 1)" -address 127.0.0.1 -port $((port + 3)) || return 1
  spawn_server rabbitmq rabbitmq env \
    PATH="$(rabbitmq_erlang)/bin:$PATH" \
    ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$((port + 3)) \
    RUNNING_UNDER_SYSTEMD=true RABBITMQ_NODENAME=lockstep@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 \
    RABBITMQ_NODE_PORT="$port" RABBITMQ_DIST_PORT=$((port + 2)) \
    RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins" \
    RABBITMQ_MNESIA_BASE="$dir/data" RABBITMQ_LOG_BASE="$dir/log" RABBITMQ_PID_FILE="$dir/data/pid" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
    "$(rabbitmq_sbin)/rabbitmq-server"
}

# rabbitmq_control ARG...: RabbitMQ's own control program, on the running broker.
rabbitmq_control() {
  local dir
  dir=$(dir_of rabbitmq)
  cd "$dir" || return 1
  run_as rabbitmq env -i HOME="$dir" LANG=C.UTF-8 TZ=UTC PATH="$(rabbitmq_erlang)/bin:$PATH" \
    ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$(($(port_of rabbitmq) + 3)) \
    RABBITMQ_NODENAME=lockstep@localhost RABBITMQ_CONF_ENV_FILE=/dev/null \
    "$(rabbitmq_sbin)/rabbitmqctl" --quiet "$@"
}

# rabbitmq_ready PORT: the broker's own health check of its client port.
rabbitmq_ready() {
  local answer
  answer=$(
    exec 3<>"/dev/tcp/127.0.0.1/$(($1 + 1))" || exit 1
    printf 'GET /api/health/checks/port-listener/%s HTTP/1.0\r\nAuthorization: Basic %s\r\n\r\n' \
      "$1" "$(printf lockstep:lockstep | base64)" >&3
    timeout 2 head -n 1 <&3
  ) 2>/dev/null
  [[ $answer == 'HTTP/1.'?' 200 '* ]]
}

# rabbitmq_sweep: the port mapper goes with its only user.
rabbitmq_sweep() {
  local pid
  pid=$(recorded_pid "$(dir_of rabbitmq)/epmd.pid") && signal rabbitmq -TERM "$pid" && wait_until 10 gone "$pid"
  return 0
}
