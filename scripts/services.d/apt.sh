# shellcheck shell=bash
# Packages of the machine's own Debian.

# apt_get ARGUMENT...: never a question, and patience with another apt.
apt_get() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" >&2
}

# apt_update: a fresh machine has no lists, an old one has lists that name versions the mirror has dropped.
apt_update() {
  local stamp=$base/apt-updated
  [ "${1:-}" != again ] && [ -n "$(find "$stamp" -mmin -720 2>/dev/null)" ] && return
  apt_get update || die "cannot update the package lists: see the messages of apt-get above"
  : >"$stamp"
}

# apt_install PACKAGE...
apt_install() { locked apt apt_install_locked "$@"; }

apt_install_locked() {
  apt_update
  starting_forbidden apt_install_packages "$@" >"$base/apt.log" 2>&1 && return
  apt_update again
  starting_forbidden apt_install_packages "$@" >"$base/apt.log" 2>&1 \
    || die_with_log "$base/apt.log" "cannot install the Debian packages $*"
}

apt_install_packages() { apt_get install --no-install-recommends "$@"; }

# starting_forbidden COMMAND...: packages must not start servers of their own on the standard ports. A policy that the
# machine has already is put back afterwards, also by the next call if this one is killed.
starting_forbidden() (
  policy=/usr/sbin/policy-rc.d
  restore() {
    rm -f "$policy.lockstep"
    if [ -e "$policy.before-lockstep" ]; then mv "$policy.before-lockstep" "$policy"; else rm -f "$policy"; fi
  }
  [ -e "$policy.lockstep" ] && restore
  [ -e "$policy" ] && { mv "$policy" "$policy.before-lockstep" || exit 1; }
  : >"$policy.lockstep"
  trap restore EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" || exit 1
  "$@"
)
