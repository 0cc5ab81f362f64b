#!/usr/bin/env bash
# README.md on a fresh machine: its commands one by one, as it has them, and `make
# test`, in a Debian or Ubuntu with nothing but Go, make and git, and curl for
# README's first tunnel. Linux, as root or with sudo.
#
# debootstrap makes it (.ci/system); the result is kept in DIRECTORY, by default one below the
# user's cache. Go and its module cache are this machine's, read-only. What is tested is HEAD, by a user who is not
# root, in a network of its own with a fake exchange. All mounts are in a private
# namespace: the machine's own are not touched.
#
#   interop/fresh.sh [DIRECTORY]
set -euo pipefail
cd "$(dirname "$0")/.."
PURPOSE=fresh
. .ci/packages
. .ci/system

can_make_system
need git=git
git rev-parse --verify --quiet HEAD >/dev/null || die "needs a git checkout: HEAD is what is tested"
[ -z "$(git status --porcelain)" ] || echo "fresh: what is not committed is not tested"

cache=${1:-}
dir=$(mktemp -d)
# No mount of the private namespaces is seen here; were there another, it is left alone.
trap '"${root[@]}" rm -rf --one-file-system "$dir"' EXIT
chmod 755 "$dir"

make_system make,git,ca-certificates,curl

"${GO:-go}" vet -tags fresh ./e2e
"${GO:-go}" list -deps -test ./... >/dev/null # what make test needs is then in the module cache
"${root[@]}" mkdir "$dir/tree"
"${root[@]}" tar -C "$dir/tree" -xzf "$system"
"${root[@]}" chroot "$dir/tree" sh -c 'grep -q ^user: /etc/passwd || useradd --create-home --shell /bin/sh user'
"${GO:-go}" test -c -tags fresh -o "$dir/fresh.test" ./e2e
"${root[@]}" cp "$dir/fresh.test" "$dir/tree/fresh.test"
git clone --quiet --depth 1 "file://$PWD" "$dir/proxyd"
"${root[@]}" mv "$dir/proxyd" "$dir/tree/home/user/proxyd"
"${root[@]}" chroot "$dir/tree" chown -R user:user /home/user

# The end of the first process in its PID namespace ends all others there.
"${root[@]}" unshare --mount --net --pid --fork --kill-child sh -euc '
	cd "$1"
	readonly_bind() { mkdir -p "$2"; mount --bind "$1" "$2"; mount -o remount,bind,ro "$2"; }
	readonly_bind "$2" usr/local/go
	readonly_bind "$3" go/pkg/mod
	. "$4"
	mount_system
	ip link set lo up
	ip address add 192.31.196.1/32 dev lo # not a private address: proxyd goes direct to it
	rc=0
	env -i FRESH=1 HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . sh -c "cd /home/user/proxyd/e2e && exec /fresh.test -test.run ^TestFreshMachine$ -test.v -test.timeout 15m" || rc=$?
	exit $rc' sh "$dir/tree" "$("${GO:-go}" env GOROOT)" "$("${GO:-go}" env GOMODCACHE)" "$PWD/.ci/mounts"
