# shellcheck shell=bash
# What postgres and postgres18 share. No unix sockets: the path of one may not be longer than 107 bytes, and the base
# folder's may.

# pg_env VARIABLE PORT
pg_env() { echo "$1 postgres://lockstep:lockstep@127.0.0.1:$2/lockstep?sslmode=disable"; }

# pg_version BIN
pg_version() { "$1/postgres" --version | awk '{ print $3 }'; }

# pg_prepare NAME BIN: made beside its place and moved there, so that data which is there is whole.
pg_prepare() {
  local name=$1 bin=$2 dir
  dir=$(dir_of "$name")
  make_user postgres
  make_dir postgres "$name"
  [ -d "$dir/data" ] && return
  rm -rf "$dir/data.new"
  install -m 600 -o postgres -g postgres <(echo lockstep) "$dir/password"
  pg_create "$bin" "$dir" >>"$(log_of "$name")" 2>&1 || die_with_log "$(log_of "$name")" "cannot create the data of $name"
  rm -f "$dir/password"
  mv "$dir/data.new" "$dir/data"
}

pg_create() {
  local bin=$1 dir=$2
  cd "$dir" || return 1
  run_as postgres "$bin/initdb" -D "$dir/data.new" -U lockstep --pwfile="$dir/password" -A scram-sha-256 -E UTF8 \
    --locale=C.UTF-8 --no-instructions \
    && echo 'CREATE DATABASE lockstep' | run_as postgres "$bin/postgres" --single -D "$dir/data.new" postgres
}

# pg_launch NAME BIN
pg_launch() {
  spawn_server "$1" postgres "$2/postgres" -D "$(dir_of "$1")/data" \
    -c listen_addresses=127.0.0.1 -c port="$(configured_port "$1")" -c unix_socket_directories= \
    -c fsync=on -c synchronous_commit=on -c full_page_writes=on \
    -c wal_level=logical -c max_wal_senders=10 -c max_replication_slots=10 \
    -c max_prepared_transactions=64 -c max_connections=300 -c shared_buffers=256MB
}

# pg_ready BIN PORT
pg_ready() { "$1/pg_isready" -q -t 1 -h 127.0.0.1 -p "$2" -U lockstep -d lockstep; }
