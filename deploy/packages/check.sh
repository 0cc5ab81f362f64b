#!/usr/bin/env bash
# The lives of the packages, .deb and .rpm: installed, configured, upgraded under live
# feeds, removed. Debian or Ubuntu, as root or with sudo.
#
# Two versions are built. They are installed in systems made by .ci/system, with
# namespaces of their own: the machine's packages, ports, users and mounts are not
# touched. In one of them systemd is the first process.
#
#   deploy/packages/check.sh [-test.run NAME] [-test.v]
set -euo pipefail
cd "$(dirname "$0")/../.."
PURPOSE=packages
. .ci/packages
. .ci/system

can_make_system
need rpm=rpm rpm2cpio=rpm2cpio cpio=cpio

dir=$(mktemp -d)
# No mount of the private namespaces is seen here; were there another, it is left alone.
trap '"${root[@]}" rm -rf --one-file-system "$dir"' EXIT
chmod 755 "$dir"

make_system systemd,systemd-sysv,rpm,ca-certificates,nftables

for version in v0.9.1 v0.9.2; do
	"${GO:-go}" -C tools run ./dist --out "$dir/$version" --version $version --targets "linux/$(dpkg --print-architecture)" --steps programs,texts,packages
done
"${GO:-go}" vet -tags packages ./deploy/packages
"${GO:-go}" test -c -tags packages -o "$dir/packages.test" ./deploy/packages

tests() {
	# The end of the first process in its PID namespace ends all others there.
	"${root[@]}" env "PATH=$PATH" PACKAGES_DIR="$dir" PACKAGES_SYSTEM="$system" \
		unshare --mount --net --pid --fork --mount-proc --kill-child sh -euc '
			ip link set lo up
			rc=0
			"$PACKAGES_DIR/packages.test" -test.timeout 5m "$@" || rc=$?
			exit $rc' sh "$@"
}

cd deploy/packages
if [ $# -gt 0 ]; then
	tests "$@"
	exit
fi
# Side by side, each with a network of its own, for they all need the same address.
names=$(tests -test.list .)
for name in $names; do
	tests -test.v -test.run "^$name\$" >"$dir/$name" 2>&1 &
done
rc=0
for job in $(jobs -p); do
	wait "$job" || rc=1
done
for name in $names; do
	if grep -q "^--- PASS: $name " "$dir/$name"; then
		grep "^---" "$dir/$name"
	else
		cat "$dir/$name"
		rc=1
	fi
done
exit $rc
