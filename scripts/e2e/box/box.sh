#!/usr/bin/env bash
# Becomes systemd, PID 1 of namespaces of its own, over a throw-away layer on this machine's root. Nothing that is written
# inside reaches the machine, except below the folders given. Started by the Go package box under unshare; it needs root.
#
#   box.sh FOLDER [SHARED…]   FOLDER is empty and the box's own; each SHARED is seen inside at the same path
set -euo pipefail
folder=$1
shift
root=$folder/root

mount --make-rprivate /
mkdir -p "$root" "$folder/layer"
mount -t tmpfs -o mode=0755 layer "$folder/layer"
mkdir "$folder/layer/upper" "$folder/layer/work"
mount -t overlay -o "lowerdir=/,upperdir=$folder/layer/upper,workdir=$folder/layer/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=0755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount -t tmpfs -o mode=0755 dev "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
for shared in "$@"; do
  mkdir -p "$root$shared"
  mount --bind "$shared" "$root$shared"
done

# What would touch the machine's kernel stays off, and what a service under test does not need.
units=$root/etc/systemd/system
mkdir -p "$units"
for unit in systemd-{sysctl,modules-load,remount-fs,udevd,udev-trigger,pcrphase,pcrphase-sysinit,timesyncd,update-utmp,random-seed,binfmt}.service \
  dev-hugepages.mount dev-mqueue.mount sys-kernel-{debug,tracing}.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount; do
  ln -sfn /dev/null "$units/$unit"
done
ip link set lo up
mkdir "$root/.old"
cd "$root"
pivot_root . .old
umount --lazy /.old
export container=box
exec /lib/systemd/systemd --system --unit=basic.target --log-target=journal-or-kmsg --show-status=no --default-standard-output=journal
