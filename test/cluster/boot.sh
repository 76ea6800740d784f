#!/bin/sh
# boot.sh DIR NAME FRESH CODE COUNT CGROUP... [SOURCE TARGET ro|rw]...
# The boot of a test host: runs as first process of fresh namespaces, builds the host's root under DIR, moves into it
# and becomes tini. FRESH is 1 at the first boot of a disk. CODE is the checkout, bound at /code. COUNT cgroup
# hierarchies follow as DIRECTORY=OPTIONS (version 1) or the single word v2, then the binds. Called by power.ts.
set -eu
dir=$1 name=$2 fresh=$3 code=$4 count=$5
shift 5
root=$dir/root

# Still the machine's /proc, so this is the pid by which the machine knows us.
read -r pid _ </proc/self/stat
echo "$pid" >"$dir/pid"

hostname "$name"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"

if [ "$1" = v2 ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  shift
else
  mount -t tmpfs -o mode=755 cgroups "$root/sys/fs/cgroup"
  while [ "$count" -gt 0 ]; do
    mkdir "$root/sys/fs/cgroup/${1%%=*}"
    mount -t cgroup -o "${1#*=}" cgroup "$root/sys/fs/cgroup/${1%%=*}"
    shift
    count=$((count - 1))
  done
fi

mount -t tmpfs -o mode=755 run "$root/run"
mkdir -p "$root/run/lock" "$root/run/netns" "$root/run/zfs"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"

if [ "$fresh" = 1 ]; then
  # A platform installed on the machine itself, or its pools, must not show through.
  rm -rf "$root/etc/flynn" "$root/usr/local/lib/flynn" "$root/usr/local/bin/flynn" "$root/usr/local/bin/flynn-host" \
    "$root/etc/zfs/zpool.cache" "$root/root/.flynnrc" "$root/etc/resolv.conf"
  mkdir -p "$root/etc/flynn"
  cp "$dir/resolv.conf" "$root/etc/resolv.conf"
fi
cp "$dir/hosts" "$root/etc/hosts"
echo "$name" >"$root/etc/hostname"

# A disk with a size of its own goes over the directory that stands for it otherwise.
if [ -e "$dir/disk.img" ]; then
  names=$(ls "$dir/disk")
  mount -o loop "$dir/disk.img" "$dir/disk"
  (cd "$dir/disk" && mkdir -p $names)
fi
for disk in "$dir"/disk/*; do
  target=$root/var/$(basename "$disk" | tr - /)
  mkdir -p "$target"
  mount --bind "$disk" "$target"
done
# The disks of all hosts lie in here; a host sees its own only.
mount -t tmpfs -o size=64k,mode=700 hidden "$root$(dirname "$(dirname "$dir")")"

set -- "$code" /code ro "$@"
while [ $# -ge 3 ]; do
  target=$root$2
  if [ -d "$1" ]; then
    mkdir -p "$target"
  else
    mkdir -p "$(dirname "$target")"
    [ -e "$target" ] || : >"$target"
  fi
  mount --bind "$1" "$target"
  [ "$3" = rw ] || mount -o remount,bind,ro "$target"
  shift 3
done

cd "$root"
mkdir -p .machine
pivot_root . .machine
cd /
umount -l /.machine
rmdir /.machine
exec tini -s -- sleep infinity
