/**
 * The two shell scripts of a boot, as text so that they survive bundling.
 *
 * ENTER runs on the host side: it moves into the cgroups that were made for it and becomes
 * unshare(1). BOOT runs as process 1 of the new namespaces: it arranges the mounts and becomes
 * systemd. Both are POSIX sh, get everything by environment, and stop at the first failure.
 */

/**
 * Environment: KAON_PARENT (pid of the starter), KAON_CGROUPS (cgroup.procs files, newline separated), KAON_BOOT (the BOOT script).
 *
 * setpriv(1) has set the parent death signal before this runs; the check of the parent closes the
 * gap in which the parent died before that. `--kill-child` hands the same signal on to process 1,
 * whose end makes the kernel kill everything in its PID namespace.
 */
export const ENTER_SCRIPT = `set -eu
[ "$(cut -d' ' -f4 /proc/$$/stat)" = "$KAON_PARENT" ] || exit 70
for procs in $KAON_CGROUPS; do echo $$ > "$procs"; done
exec unshare --pid --fork --kill-child=SIGKILL --mount --uts --ipc --cgroup --propagation private \\
  /bin/sh -c "$KAON_BOOT"
`;

/**
 * Environment: KAON_STATE (directory with \`units\`, \`journald.conf\`, \`console\`, \`empty\`), KAON_MOUNTS (lines
 * \`<mount point> <fs type> <options or -> <inode of our cgroup>\`), KAON_UNIFIED (1 on a v2-only host), KAON_TARGET, KAON_SYSTEMD.
 */
export const BOOT_SCRIPT = `set -eu
# Only now are the namespaces made: until this file is there the starter must not touch our cgroups, or a
# hierarchy would be rooted at the host's own cgroup and systemd would make its tree there.
: > "$KAON_STATE/entered"
# The starter moves unshare out of our cgroups: systemd cannot (processes from outside of our PID namespace show
# as 0), and a v2 cgroup that hands controllers on may hold no process (cgroups(7), "no internal processes").
# Polling cgroup.procs instead would see v1's list of up to a second ago.
until [ -e "$KAON_STATE/moved" ]; do sleep 0.005; done
mount -t proc proc /proc
# systemd raises a few kernel limits when it boots; they are the host's, so it must not.
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
# A /etc/resolv.conf that points into /run would dangle below the fresh /run.
resolv=$(readlink -f /etc/resolv.conf 2>/dev/null || true)
case "$resolv" in /run/*) cp "$resolv" "$KAON_STATE/resolv.conf";; *) resolv=;; esac
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
# systemd mounts a service's credentials in a namespace of their own, and only a shared /run brings them back here.
mount --make-shared /run
mkdir -p /run/lock /run/systemd/journald.conf.d
chmod 1777 /run/lock
cp "$KAON_STATE/journald.conf" /run/systemd/journald.conf.d/kaon.conf
if [ -n "$resolv" ]; then mkdir -p "$(dirname "$resolv")"; cp "$KAON_STATE/resolv.conf" "$resolv"; fi
# Early messages go to a file of ours instead of the host's console and kernel log.
for device in /dev/console /dev/kmsg; do
  if [ -e $device ]; then mount --bind "$KAON_STATE/console" $device; fi
done
# The same paths as on the host, but each hierarchy starts at our own cgroup.
umount -R /sys/fs/cgroup 2>/dev/null || umount -R -l /sys/fs/cgroup
if [ "$KAON_UNIFIED" != 1 ]; then mount -t tmpfs -o mode=755,nosuid,nodev,noexec tmpfs /sys/fs/cgroup; fi
printf '%s\\n' "$KAON_MOUNTS" | while read -r point type options inode; do
  mkdir -p "$point"
  if [ "$options" = - ]; then mount -t "$type" cgroup "$point"; else mount -t "$type" -o "$options" cgroup "$point"; fi
  # Proof that the hierarchy starts at the cgroup that was made for us, before systemd makes anything in it.
  [ "$(stat -c %i "$point")" = "$inode" ] || { echo "$point is not our own cgroup; nothing was started" >&2; exit 71; }
done
exec env -i container=kaon PATH="$PATH" \\
  SYSTEMD_UNIT_PATH="/run/systemd/transient:/run/systemd/system.control:$KAON_STATE/units" \\
  SYSTEMD_GENERATOR_PATH="$KAON_STATE/empty" SYSTEMD_ENVIRONMENT_GENERATOR_PATH="$KAON_STATE/empty" \\
  "$KAON_SYSTEMD" --system --unit="$KAON_TARGET" --log-level=notice --log-target=journal-or-kmsg --show-status=no \\
  systemd.hostname="$(hostname)"
`;
