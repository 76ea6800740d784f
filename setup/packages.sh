#!/bin/sh
# packages.sh [--list] [GROUP...]: installs what is missing of the groups in packages.list; host and images when none is
# named. --list prints the missing packages and installs nothing. Works before node is there; quiet when all is.
# No service that a package brings is started or left enabled: Flynn starts its own engines, with its own settings.
set -euf
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
lock_timeout_s=300
# Says when this script read apt's index; within so many minutes it does not read it again.
indexed=/run/flynn-apt-index
index_fresh_min=10
policy=/usr/sbin/policy-rc.d
saved=$policy.before-flynn

list_only=no
if [ "${1:-}" = --list ]; then
  list_only=yes
  shift
fi
[ $# -gt 0 ] || set -- host images

for group in "$@"; do
  if ! grep -q "^$group " "$here/packages.list"; then
    echo "packages.sh: no group \"$group\" in packages.list" >&2
    exit 64
  fi
done

installed() { # PACKAGE COMMAND
  if [ "$2" != - ]; then
    command -v "$2" >/dev/null
  else
    dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
  fi
}

missing() { # GROUP...
  while read -r group package command _; do
    case $group in '' | '#'*) continue ;; esac
    case " $* " in *" $group "*) ;; *) continue ;; esac
    installed "$package" "$command" || echo "$package"
  done <"$here/packages.list"
}

packages=$(missing "$@" | sort -u)
if [ $list_only = yes ]; then
  [ -z "$packages" ] || echo "$packages"
  exit 0
fi
[ -n "$packages" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "packages.sh: missing, and only root can install: $(echo "$packages" | tr '\n' ' ')" >&2
  exit 77
fi

log=$(mktemp)
enabled_before=$(mktemp)
policy_changed=no
restore() {
  [ $policy_changed = yes ] || return 0
  if [ -e "$saved" ]; then mv "$saved" "$policy"; else rm -f "$policy"; fi
}
finish() {
  code=$?
  trap - EXIT
  restore
  rm -f "$log" "$enabled_before"
  exit $code
}

enabled_units() {
  systemctl list-unit-files --state=enabled --no-legend --no-pager | awk '{ print $1 }' | sort
}

apt() {
  DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get -q -y \
    -o DPkg::Lock::Timeout=$lock_timeout_s -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" >>"$log" 2>&1 </dev/null
}

fail() {
  # Whoever mends the package sources and tries again wants them read.
  rm -f $indexed
  tail -n 25 "$log" >&2
  echo "packages.sh: $1" >&2
  exit 1
}

has_kernel_zfs() {
  grep -qw zfs /proc/filesystems || modinfo zfs >/dev/null 2>&1
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# A saved policy that is still here was left by an earlier run that was killed: it is the real one.
if [ -e "$policy" ] && [ ! -e "$saved" ]; then mv "$policy" "$saved"; fi
policy_changed=yes
printf '#!/bin/sh\n# Written by the setup of Flynn while it installs packages: services stay as they are.\nexit 101\n' >"$policy"
chmod 755 "$policy"

if [ ! -e $indexed ] || [ -z "$(find $indexed -mmin -$index_fresh_min)" ]; then
  apt update || fail 'apt-get update failed'
  : >$indexed
fi
case " $(echo "$packages" | tr '\n' ' ') " in
*' zfs '*)
  zfs=zfs-fuse
  if has_kernel_zfs || ! apt-cache show zfs-fuse >/dev/null 2>&1; then zfs=zfsutils-linux; fi
  packages=$(echo "$packages" | sed "s/^zfs\$/$zfs/")
  ;;
esac

systemd=no
if [ -d /run/systemd/system ]; then
  systemd=yes
  enabled_units >"$enabled_before"
fi
# Without a sync for every file, for npm alone is 374 packages: one at the end. Until then a power cut may leave some half
# written, as anywhere in an installation.
# shellcheck disable=SC2086 # one word a package
apt -o Dpkg::Options::=--force-unsafe-io install --no-install-recommends --no-remove $packages ||
  fail "apt-get could not install $(echo "$packages" | tr '\n' ' ')"
sync
if [ $systemd = yes ]; then
  for unit in $(enabled_units | comm -13 "$enabled_before" -); do
    systemctl disable "$unit" >>"$log" 2>&1 || fail "cannot disable $unit"
  done
fi
echo "installed: $(echo "$packages" | tr '\n' ' ')"
