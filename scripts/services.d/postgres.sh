# shellcheck shell=bash
# PostgreSQL of the machine's Debian (15 on Debian 12).

postgres_port() { echo 25432; }
postgres_ports() { echo "$1"; }
postgres_env() { pg_env LOCKSTEP_TEST_POSTGRES "$1"; }
postgres_stop_signal() { echo INT; }

# postgres_bin: the version that made the data, which no other can read; else the newest one.
postgres_bin() {
  local version
  version=$(cat "$(dir_of postgres)/data/PG_VERSION" 2>/dev/null) && { echo "/usr/lib/postgresql/$version/bin"; return; }
  find /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -n 1 | xargs -r dirname
}

postgres_installed() { [ -x "$(postgres_bin)/postgres" ]; }
postgres_install() {
  local conf=/etc/postgresql-common/createcluster.d/lockstep.conf status
  # Else the package makes a cluster of its own, which the machine would start on 5432 at its next boot.
  install -d "$(dirname "$conf")" && echo 'create_main_cluster = false' >"$conf" || return 1
  (apt_install postgresql)
  status=$?
  rm -f "$conf"
  return $status
}
postgres_version() { pg_version "$(postgres_bin)"; }
postgres_prepare() { pg_prepare postgres "$(postgres_bin)"; }
postgres_launch() { pg_launch postgres "$(postgres_bin)"; }
postgres_ready() { pg_ready "$(postgres_bin)" "$1"; }
