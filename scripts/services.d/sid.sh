# shellcheck shell=bash
# Packages of Debian sid, unpacked into a prefix and run there with sid's own C library: newer servers than the machine's
# release has, without touching the machine. Sid moves; versions are printed, not pinned, and a failed fetch is loud.

# What only maintainer scripts would use, or what the machine itself has.
sid_stand_ins=(perl perl-base debconf systemd adduser passwd base-passwd locales tzdata postgresql-common
  postgresql-client-common ssl-cert libpam-modules libpam-modules-bin procps ucf sysvinit-utils openssl rabbitmqadmin-ng
  login.defs libc-bin netbase readline-common logrotate socat python3)

# sid_install NAME PACKAGE...: the packages and their libraries into NAME/root. NAME_sid_finish UNPACKED ROOT makes the
# programs runnable before the folder gets its name: a root that is there is whole.
sid_install() {
  local name=$1 root; shift
  root=$(dir_of "$name")/root
  command -v patchelf >/dev/null || apt_install patchelf
  mkdir -p "$(dirname "$root")" || die "cannot create $(dirname "$root")"
  rm -rf "$root" "$root.new"
  locked apt sid_unpack "$root.new" "$@"
  "${name}_sid_finish" "$root.new" "$root" || die "cannot make the programs of $name find their libraries in $root"
  mv "$root.new" "$root" || die "cannot create $root"
}

# sid_unpack ROOT PACKAGE...
sid_unpack() {
  local root=$1 state=$base/sid deb; shift
  sid_state "$state"
  rm -f "$state"/cache/archives/*.deb
  APT_CONFIG=$state/apt.conf apt_get --no-install-recommends --download-only install "$@" >"$state/log" 2>&1 \
    || die_with_log "$state/log" "cannot fetch $* from Debian sid"
  mkdir -p "$root"
  for deb in "$state"/cache/archives/*.deb; do
    case $deb in */libc-gconv* | */openssl-provider* | */gcc-*-base*) continue ;; esac
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --exclude='./usr/share/doc*' --exclude='./usr/share/man*' \
      --exclude='./usr/share/locale*' --exclude='./usr/share/lintian*' --exclude='./usr/bin/*' \
      || die "cannot unpack $deb"
  done
  rm -f "$state"/cache/archives/*.deb
}

# sid_state STATE: an apt of its own, with lists not older than an hour.
sid_state() {
  local state=$1 mirror architecture package
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial" || die "cannot create $state"
  architecture=$(dpkg --print-architecture)
  for package in "${sid_stand_ins[@]}"; do
    printf 'Package: %s\nStatus: install ok installed\nVersion: 999\nArchitecture: %s\nMulti-Arch: allowed\nMaintainer: none\nDescription: stand-in\n\n' \
      "$package" "$architecture"
  done >"$state/status"
  [ -n "$(find "$state/updated" -mmin -60 2>/dev/null)" ] && return
  mirror=$(debian_mirror)
  [ -n "$mirror" ] || die "cannot find a Debian mirror in the apt sources of this machine"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s sid main\n' "$mirror" >"$state/sources.list"
  cat >"$state/apt.conf" <<CONF
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$state/lists";
Dir::State::status "$state/status";
Dir::Cache "$state/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
CONF
  APT_CONFIG=$state/apt.conf apt_get update >"$state/log" 2>&1 \
    || die_with_log "$state/log" "cannot fetch the package lists of Debian sid"
  : >"$state/updated"
}

# debian_mirror: as apt itself reads its sources, whatever their format; the lists must be there for apt to know which
# archive is Debian's own.
debian_mirror() {
  apt_update
  # shellcheck disable=SC2016 # apt's placeholders
  apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' \
    | awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }'
}

# sid_patch UNPACKED ROOT FILE...: make programs below UNPACKED find sid's loader and libraries below ROOT, where they will
# be. Files that are not programs are left alone.
sid_patch() {
  local unpacked=$1 root=$2 loader file; shift 2
  loader=$(find "$unpacked/usr/lib" -maxdepth 2 -name 'ld-linux-*.so.*' | head -n 1)
  [ -n "$loader" ] || return 1
  loader=$root${loader#"$unpacked"}
  for file in "$@"; do
    [ "$(head -c 4 "$file" 2>/dev/null | tail -c 3)" = ELF ] || continue
    patchelf --print-interpreter "$file" >/dev/null 2>&1 || continue
    patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$(dirname "$loader")" "$file" || return 1
  done
}
