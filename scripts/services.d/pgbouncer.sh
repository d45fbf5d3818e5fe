# shellcheck shell=bash
# PgBouncer of the machine's Debian, in front of postgres, pooling transactions: what a statement, a session setting or
# a prepared statement leaves on a server connection meets somebody else's next transaction there. The database is there in
# each mode as well, under a name of its own: a pool that nobody else uses.

pgbouncer_port() { echo 25433; }
pgbouncer_ports() { echo "$1"; }
pgbouncer_env() { pg_env LOCKSTEP_TEST_PGBOUNCER "$1"; }
pgbouncer_stop_signal() { echo TERM; }

pgbouncer_installed() { [ -x /usr/sbin/pgbouncer ] && postgres_installed; }
pgbouncer_install() {
  postgres_installed || locked postgres install_missing postgres
  [ -x /usr/sbin/pgbouncer ] && return
  # Else the machine would start the package's own one at its next boot.
  apt_install pgbouncer && update-rc.d pgbouncer disable >&2
}
pgbouncer_version() { /usr/sbin/pgbouncer --version | awk 'NR == 1 { print $2 }'; }

# Few server connections, so that clients have to share them. The configuration says which postgres: one that is started
# again on another port needs pgbouncer started again.
pgbouncer_prepare() {
  local dir server
  dir=$(dir_of pgbouncer)
  server="host=127.0.0.1 port=$(port_of postgres) dbname=lockstep user=lockstep password=lockstep"
  make_user postgres
  make_dir postgres pgbouncer
  cat >"$dir/pgbouncer.ini" <<CONF
[databases]
lockstep = $server
lockstep_transaction = $server
lockstep_session = $server pool_mode=session
lockstep_statement = $server pool_mode=statement
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $(configured_port pgbouncer)
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
server_login_retry = 1
CONF
}

pgbouncer_launch() { spawn_server pgbouncer postgres /usr/sbin/pgbouncer "$(dir_of pgbouncer)/pgbouncer.ini"; }
pgbouncer_ready() { pg_ready "$(postgres_bin)" "$1"; }
