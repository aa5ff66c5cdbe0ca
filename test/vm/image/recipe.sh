#!/bin/sh
# Makes what test/vm boots: a Debian 12 with its own kernel, systemd as process 1 and cgroup v2, on a disk of its own.
# Root only; needs mmdebstrap and mkfs.ext4, and takes its packages from where this machine takes them.
#
# Usage: recipe.sh FOLDER [FILE-OF-APT-SOURCES...]     leaves FOLDER/{vmlinuz,initrd,disk.ext4}
#
# Kept out of the image: Node and Redis. install.sh brings the one from a tarball and the other by apt-get, from a folder
# of packages in the image, as the machine has no network.

set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd -P)
out=$1
shift
root=$out/root

# The customize-hook is called by mmdebstrap with the folder of the new system, while apt-get works in it.
# INITRD=No: ours is below. One of initramfs-tools takes a minute to make and, with udev in it, ten seconds to boot.
INITRD=No mmdebstrap --quiet --mode=root --variant=minbase \
  --include=systemd-sysv,dbus,udev,linux-image-cloud-amd64,procps,dbus-user-session,libpam-systemd,busybox-static,cpio \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook="$here/packages.sh" \
  bookworm "$root" "$@"

# No addresses of anybody's mirror, and no names of the machine that has built it.
rm -f "$root"/etc/apt/sources.list.d/* "$root"/etc/apt/apt.conf.d/99mmdebstrap
echo 'deb [trusted=yes] file:/srv/packages ./' >"$root/etc/apt/sources.list"
echo kaon-vm >"$root/etc/hostname"
echo '127.0.0.1 localhost kaon-vm' >"$root/etc/hosts"
: >"$root/etc/resolv.conf"
# An empty one would make every boot a first boot.
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
# What a test has no use for, and what would work beside it whenever it likes.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
  fstrim.timer modprobe@.service serial-getty@ttyS0.service getty@tty1.service; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# An emulator on a machine that has other work needs minutes for what takes a second; systemd would give up.
mkdir -p "$root/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultTimeoutStartSec=600\nDefaultTimeoutStopSec=300\nDefaultDeviceTimeoutSec=600\n' \
  >"$root/etc/systemd/system.conf.d/slow.conf"

install -m 755 "$here/guest.sh" "$root/usr/local/sbin/vm-guest"
install -m 644 "$here/vm-guest.service" "$root/etc/systemd/system/"
ln -s ../vm-guest.service "$root/etc/systemd/system/multi-user.target.wants/"

# The initrd: a static busybox, the drivers of the disk, which Debian has as modules, and our /init.
mkdir -p "$root/tmp/initrd/modules" "$root/tmp/initrd/root" "$root/tmp/initrd/dev"
install -m 755 "$here/init" "$root/tmp/initrd/init"
cp "$root/bin/busybox" "$root/tmp/initrd/busybox"
kernel=$(ls "$root/usr/lib/modules")
for module in virtio_pci virtio_blk virtio_console; do
  chroot "$root" modprobe --set-version "$kernel" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { printf "%02d %s\n", ++count, $2 }' |
  while read -r number file; do
    cp "$root$file" "$root/tmp/initrd/modules/$number-$(basename "$file")"
  done
chroot "$root" sh -c 'cd /tmp/initrd && find . | cpio --quiet -o -H newc' >"$out/initrd"
cp "$root/boot/vmlinuz-$kernel" "$out/vmlinuz"
rm -rf "$root/tmp/initrd" "${root:?}"/boot/*

mkfs.ext4 -q -L kaon-vm -d "$root" "$out/disk.ext4" 2G
rm -rf "$root"
