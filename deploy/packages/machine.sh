#!/bin/sh
# The first process of a machine that the tests start, in mount, PID, UTS and IPC
# namespaces of its own: makes ROOT the root directory, and becomes PROGRAM.
#
#   machine.sh ROOT CGROUP PROGRAM [ARGUMENT…]
#
# CGROUP is a cgroup of version 2 for systemd, or "".
set -eu
root=$1 cgroup=$2
. "$(dirname "$0")/../../.ci/mounts"
if [ -n "$cgroup" ] && [ -z "${IN_CGROUP:-}" ]; then
	echo 0 >"$cgroup/cgroup.procs"
	IN_CGROUP=1 exec unshare --cgroup -- "$0" "$@"
fi
shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount_system
mount -t tmpfs -o mode=755 tmpfs run
if [ -n "$cgroup" ]; then
	mount -t sysfs -o ro sysfs sys
	mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
# The kernel's settings are those of the real machine.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
hostname packages
mkdir run/old
pivot_root . run/old
umount -l /run/old
rmdir /run/old
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
