# shellcheck shell=bash
# MariaDB of the machine's Debian (10.11 on Debian 12). The core packages alone: they have the programs and no service
# that the machine would start.

mariadb_port() { echo 23307; }
mariadb_ports() { echo "$1"; }
mariadb_env() { echo "LOCKSTEP_TEST_MARIADB lockstep:lockstep@tcp(127.0.0.1:$1)/lockstep"; }
mariadb_stop_signal() { echo TERM; }

mariadb_installed() { [ -x /usr/sbin/mariadbd ] && [ -x /usr/bin/mariadb ] && [ -x /usr/bin/mariadb-install-db ]; }
mariadb_install() { apt_install mariadb-server-core mariadb-client-core; }
mariadb_version() { /usr/sbin/mariadbd --no-defaults --version | awk '{ sub(/-.*/, "", $3); print $3 }'; }

mariadb_prepare() {
  local dir
  dir=$(dir_of mariadb)
  make_user mysql
  make_dir mysql mariadb
  mariadb_configure "$dir" "$(configured_port mariadb)"
  [ -d "$dir/data" ] && return
  rm -rf "$dir/data.new"
  mariadb_create "$dir" >>"$(log_of mariadb)" 2>&1 || die_with_log "$(log_of mariadb)" "cannot create the data of mariadb"
  mv "$dir/data.new" "$dir/data"
}

mariadb_create() {
  local dir=$1
  run_as mysql mariadb-install-db --defaults-file="$dir/my.cnf" --datadir="$dir/data.new" \
    --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve || return 1
  # FLUSH first: a server that bootstraps has not read the grant tables and refuses to change them.
  run_as mysql mariadbd --defaults-file="$dir/my.cnf" --datadir="$dir/data.new" --bootstrap <<SQL
FLUSH PRIVILEGES;
CREATE DATABASE lockstep;
CREATE USER 'lockstep'@'%' IDENTIFIED BY 'lockstep';
GRANT ALL ON *.* TO 'lockstep'@'%' WITH GRANT OPTION;
SQL
}

# mariadb_configure DIR PORT: the socket's path is relative, to the data folder, because of the limit of 107 bytes.
mariadb_configure() {
  local dir=$1 port=$2
  cat >"$dir/my.cnf" <<CONF
[mysqld]
datadir=$dir/data
socket=mysqld.sock
pid-file=mysqld.pid
bind-address=127.0.0.1
port=$port
skip-name-resolve
server-id=2
log-bin=binlog
binlog-format=ROW
sync_binlog=1
innodb_flush_log_at_trx_commit=1
innodb_buffer_pool_size=256M
max_connections=300
character-set-server=utf8mb4
CONF
}

mariadb_launch() { spawn_server mariadb mysql /usr/sbin/mariadbd --defaults-file="$(dir_of mariadb)/my.cnf"; }

# mariadb_ready PORT: a query, because the port opens before the server can answer one.
mariadb_ready() {
  timeout 2 /usr/bin/mariadb --no-defaults --connect-timeout=1 --protocol=tcp -h 127.0.0.1 -P "$1" \
    -u lockstep -plockstep -e 'SELECT 1' lockstep
}
