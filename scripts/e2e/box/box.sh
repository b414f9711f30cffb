#!/usr/bin/env bash
# Becomes systemd, PID 1 of namespaces of its own, over a throw-away layer on this machine's root. Nothing that is written
# inside reaches the machine, except below the folders given, and nothing that the machine starts at boot is started.
# Started by the Go package box under unshare; it needs root.
#
#   box.sh LAYER ROOT [SHARED…]   LAYER keeps what is written inside, for the next boot; ROOT is an empty folder;
#                                 each SHARED is seen inside at the same path
set -euo pipefail
layer=$1 root=$2
shift 2

mount --make-rprivate /
mkdir -p "$layer/upper" "$layer/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" overlay "$root"
# An overlay shows no file system that is mounted below /; programs may be on such a one.
while read -r folder; do
  mount --bind -o ro "$folder" "$root$folder"
done < <(findmnt --raw --noheadings --output TARGET | grep -E '^/(usr|opt|nix|lib|lib64|bin|sbin)(/|$)' || true)

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=0755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount -t tmpfs -o mode=0755 log "$root/var/log"
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

# At the first boot: a machine of its own, with none of this machine's services, disks, names or Cutover.
if [[ ! -e $layer/made ]]; then
  rm -rf "$root/etc/systemd/system" "$root/etc/init.d" "$root/etc/cutover" "$root/var/lib/cutover" "$root/opt/cutover" "$root/usr/local/bin/cutover"
  mkdir -p "$root/etc/systemd/system" "$root/etc/init.d"
  rm -f "$root/etc/fstab" "$root/etc/crypttab" "$root/etc/machine-id" "$root/etc/hosts" "$root/etc/resolv.conf"
  touch "$root/etc/fstab" "$root/etc/resolv.conf"
  tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
  printf '127.0.0.1 localhost box\n::1 localhost\n' >"$root/etc/hosts"
  # What would touch the machine's kernel stays off, and what a service under test does not need.
  for unit in systemd-{sysctl,modules-load,remount-fs,udevd,udev-trigger,pcrphase,pcrphase-sysinit,timesyncd,update-utmp,random-seed,binfmt,logind,networkd,resolved,firstboot,hwdb-update}.service \
    systemd-udevd-{control,kernel}.socket getty.target console-getty.service dev-hugepages.mount dev-mqueue.mount sys-kernel-{config,debug,tracing}.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount; do
    ln -s /dev/null "$root/etc/systemd/system/$unit"
  done
  touch "$layer/made"
fi
hostname box
ip link set lo up
mkdir -p "$root/.old"
cd "$root"
pivot_root . .old
umount --lazy /.old
export container=box
for systemd in /lib/systemd/systemd /usr/lib/systemd/systemd; do
  [[ ! -x $systemd ]] || exec "$systemd" --system --unit=multi-user.target --log-target=journal-or-kmsg --show-status=no --default-standard-output=journal
done
echo "there is no systemd here" >&2
exit 1
