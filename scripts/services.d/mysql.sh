# shellcheck shell=bash
# MySQL 9, from Debian sid: Debian's releases have only MariaDB.

mysql_port() { echo 23306; }
mysql_ports() { echo "$1"; }
mysql_env() { echo "LOCKSTEP_TEST_MYSQL lockstep:lockstep@tcp(127.0.0.1:$1)/lockstep"; }
mysql_stop_signal() { echo TERM; }

mysql_mysqld() { echo "$base/mysql/root/usr/sbin/mysqld"; }

mysql_installed() { [ -x "$(mysql_mysqld)" ]; }
mysql_install() { sid_install mysql mysql-server-core; }
mysql_sid_finish() { sid_patch "$1" "$2" "$1"/usr/sbin/mysqld; }
mysql_version() { "$(mysql_mysqld)" --no-defaults --version | awk '{ sub(/-.*/, "", $3); print $3 }'; }

mysql_prepare() {
  local dir
  dir=$(dir_of mysql)
  make_user mysql
  make_dir mysql mysql
  mysql_configure "$dir" "$(configured_port mysql)"
  [ -d "$dir/data" ] && return
  rm -rf "$dir/data.new"
  cat >"$dir/init.sql" <<SQL
CREATE DATABASE lockstep;
CREATE USER 'lockstep'@'%' IDENTIFIED BY 'lockstep';
GRANT ALL ON *.* TO 'lockstep'@'%' WITH GRANT OPTION;
SQL
  run_as mysql "$(mysql_mysqld)" --defaults-file="$dir/my.cnf" --datadir="$dir/data.new" --initialize-insecure \
    --init-file="$dir/init.sql" >>"$(log_of mysql)" 2>&1 || die_with_log "$(log_of mysql)" "cannot create the data of mysql"
  mv "$dir/data.new" "$dir/data"
}

# mysql_configure DIR PORT: the socket's path is relative, to the data folder, because of the limit of 107 bytes.
mysql_configure() {
  local dir=$1 port=$2 root=$1/root/usr
  cat >"$dir/my.cnf" <<CONF
[mysqld]
basedir=$root
lc-messages-dir=$root/share/mysql
character-sets-dir=$root/share/mysql/charsets
plugin-dir=$root/lib/mysql/plugin
secure-file-priv=NULL
datadir=$dir/data
socket=mysqld.sock
pid-file=mysqld.pid
bind-address=127.0.0.1
port=$port
mysqlx=OFF
server-id=1
log-bin=binlog
gtid-mode=ON
enforce-gtid-consistency=ON
sync_binlog=1
innodb_flush_log_at_trx_commit=1
innodb_buffer_pool_size=256M
max_connections=300
CONF
}

mysql_launch() { spawn_server mysql mysql "$(mysql_mysqld)" --defaults-file="$(dir_of mysql)/my.cnf"; }

# mysql_ready PORT: the server greets each connection with its protocol version, 10; it opens the port after recovery.
mysql_ready() {
  local greeting
  greeting=$(
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    timeout 2 head -c 5 <&3 | od -An -tx1
  ) 2>/dev/null
  [[ $greeting == *' 0a' ]]
}
