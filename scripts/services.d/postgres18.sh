# shellcheck shell=bash
# PostgreSQL 18, from Debian sid.

postgres18_port() { echo 25418; }
postgres18_ports() { echo "$1"; }
postgres18_env() { pg_env LOCKSTEP_TEST_POSTGRES18 "$1"; }
postgres18_stop_signal() { echo INT; }

postgres18_bin() { echo "$base/postgres18/root/usr/lib/postgresql/18/bin"; }

postgres18_installed() { [ -x "$(postgres18_bin)/postgres" ]; }
postgres18_install() { sid_install postgres18 postgresql-18; }
postgres18_sid_finish() { sid_patch "$1" "$2" "$1"/usr/lib/postgresql/18/bin/*; }
postgres18_version() { pg_version "$(postgres18_bin)"; }
postgres18_prepare() { pg_prepare postgres18 "$(postgres18_bin)"; }
postgres18_launch() { pg_launch postgres18 "$(postgres18_bin)"; }
postgres18_ready() { pg_ready "$(postgres18_bin)" "$1"; }
