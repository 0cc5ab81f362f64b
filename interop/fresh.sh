#!/usr/bin/env bash
# README.md on a fresh machine: its commands one by one, as it has them, and `make
# test`, in a Debian or Ubuntu with nothing but Go, make and git, and curl for
# README's first tunnel. Linux, as root or with sudo.
#
# debootstrap makes it, from the source that apt has on this machine; the result is kept
# in a directory below the user's cache, by default, and is made again after a month. Go and its
# module cache are this machine's, read-only. What is tested is HEAD, by a user who is not
# root, in a network of its own with a fake exchange. All mounts are in a private
# namespace: the machine's own are not touched.
#
#   interop/fresh.sh [DIRECTORY]
set -euo pipefail
cd "$(dirname "$0")/.."
PURPOSE=fresh
. .ci/packages

[ "$(uname -s)" = Linux ] || die "needs Linux"
command -v apt-get >/dev/null || die "needs Debian or Ubuntu: debootstrap takes the packages from apt's own source"
"${root[@]}" true 2>/dev/null || die "debootstrap and chroot need root: run it as root, or where sudo asks for no password"
"${root[@]}" unshare --mount --net --pid --fork true 2>/dev/null ||
	die "this root may not make namespaces; in a container: --cap-add SYS_ADMIN --security-opt seccomp=unconfined"
need debootstrap=debootstrap ip=iproute2 git=git
git rev-parse --verify --quiet HEAD >/dev/null || die "needs a git checkout: HEAD is what is tested"
[ -z "$(git status --porcelain)" ] || echo "fresh: what is not committed is not tested"

packages=make,git,ca-certificates,curl
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
arch=$(dpkg --print-architecture)

# The first source of the release itself, not of its updates or of others.
source_of_apt() {
	apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(ORIGIN) $(SITE)' 'Created-By: Packages' |
		awk -v suite="$suite" '$1 == suite && $2 == "main" && $3 ~ /^(Debian|Ubuntu)$/ && !seen++ { print $4 }'
}
uri=$(source_of_apt)
[ -n "$uri" ] || { "${root[@]}" apt-get -qq update && uri=$(source_of_apt); }
case $uri in mirror+file:*) uri=$(awk '!/^#/ && !seen++ { print $1 }' "${uri#mirror+file:}") ;; esac
[ -n "$uri" ] || die "apt has no source of ${suite:-this system}, component main, to make a system from"
eval "$(apt-config shell apt_proxy Acquire::http::Proxy)"
[ -z "${apt_proxy:-}" ] || export http_proxy="$apt_proxy"

cache=${1:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/proxyd-fresh}
mkdir -p "$cache"
system=$cache/$suite-$arch-$(echo "$uri $packages" | cksum | cut -d ' ' -f 1).tar.gz
dir=$(mktemp -d)
# No mount of the private namespaces is seen here; were there another, it is left alone.
trap '"${root[@]}" rm -rf --one-file-system "$dir"' EXIT
chmod 755 "$dir"

if [ -z "$(find "$system" -mtime -30 2>/dev/null)" ]; then
	echo "fresh: debootstrap of $suite"
	"${root[@]}" env ${http_proxy:+"http_proxy=$http_proxy"} unshare --mount debootstrap --variant=minbase --include="$packages" "$suite" "$dir/made" "$uri" >"$dir/log" 2>&1 ||
		{ tail -5 "$dir/log" >&2; die "debootstrap failed"; }
	"${root[@]}" chroot "$dir/made" useradd --create-home --shell /bin/sh user
	"${root[@]}" tar -C "$dir/made" --one-file-system --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' --exclude='./var/cache/apt/*' \
		--exclude='./var/lib/apt/lists/*' --exclude='./usr/share/doc/*' --exclude='./usr/share/locale/*' -cf - . | gzip -1 >"$system.part"
	"${root[@]}" rm -rf --one-file-system "$dir/made"
	rm -f "$cache"/*.tar.gz
	mv "$system.part" "$system"
fi

"${GO:-go}" vet -tags fresh ./e2e
"${GO:-go}" list -deps -test ./... >/dev/null # what make test needs is then in the module cache
"${root[@]}" mkdir "$dir/root"
"${root[@]}" tar -C "$dir/root" -xzf "$system"
"${GO:-go}" test -c -tags fresh -o "$dir/fresh.test" ./e2e
"${root[@]}" cp "$dir/fresh.test" "$dir/root/fresh.test"
git clone --quiet --depth 1 "file://$PWD" "$dir/proxyd"
"${root[@]}" mv "$dir/proxyd" "$dir/root/home/user/proxyd"
"${root[@]}" chroot "$dir/root" chown -R user:user /home/user

# The end of the first process in its PID namespace ends all others there.
"${root[@]}" unshare --mount --net --pid --fork --kill-child sh -euc '
	cd "$1"
	readonly_bind() { mkdir -p "$2"; mount --bind "$1" "$2"; mount -o remount,bind,ro "$2"; }
	readonly_bind "$2" usr/local/go
	readonly_bind "$3" go/pkg/mod
	mount -t proc proc proc
	for device in null zero full random urandom tty; do
		touch dev/$device
		mount --bind /dev/$device dev/$device
	done
	mkdir dev/shm
	mount -t tmpfs -o mode=1777 tmpfs dev/shm
	ln -s /proc/self/fd dev/fd
	ln -s fd/0 dev/stdin
	ln -s fd/1 dev/stdout
	ln -s fd/2 dev/stderr
	ip link set lo up
	ip address add 192.31.196.1/32 dev lo # not a private address: proxyd goes direct to it
	rc=0
	env -i FRESH=1 HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . sh -c "cd /home/user/proxyd/e2e && exec /fresh.test -test.run ^TestFreshMachine$ -test.v -test.timeout 15m" || rc=$?
	exit $rc' sh "$dir/root" "$("${GO:-go}" env GOROOT)" "$("${GO:-go}" env GOMODCACHE)"
