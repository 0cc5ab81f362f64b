#!/usr/bin/env bash
# bin/proxyd between real programs: curl, tinyproxy, squid, microsocks, dante, and the
# resolvers of glibc with nscd, musl, Go, Java and Python, PostgreSQL and Redis.
# Linux, as root or with sudo; what is missing is installed from Debian's or
# Ubuntu's packages. All runs in namespaces of its own: the machine's ports,
# /etc/hosts and processes are not touched.
#
#   interop/run.sh [-test.run 'Interop/dead_targets'] [-test.v]
set -euo pipefail
cd "$(dirname "$0")/.."
PURPOSE=interop
. .ci/packages

need_namespaces
need curl=curl /usr/bin/python3=python3 tinyproxy=tinyproxy squid=squid microsocks=microsocks danted=dante-server ip=iproute2 nft=nftables gcc=gcc musl-gcc=musl-tools nscd=nscd javac=default-jdk-headless redis-server=redis-server redis-cli=redis-tools
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || install_packages postgresql # not in PATH

dir=$(mktemp -d)
trap '"${root[@]}" rm -rf "$dir"' EXIT
chmod 755 "$dir" # squid reads it as a user of its own
[ -x bin/proxyd ] || die "no bin/proxyd: make build"
cp bin/proxyd "$dir/proxyd" # another build may replace it meanwhile

${GO:-go} vet -tags interop ./interop
${GO:-go} test -c -tags interop -o "$dir/interop.test" ./interop

# The tests write these three; programs then look names up there and nowhere else.
touch "$dir/hosts" "$dir/resolv.conf" "$dir/nsswitch.conf"

# The end of the first process in its PID namespace ends all others there.
"${root[@]}" env "PATH=$PATH" INTEROP_DIR="$dir" INTEROP_PROXYD="$dir/proxyd" \
	unshare --mount --net --pid --fork --mount-proc --kill-child sh -euc '
		for f in hosts resolv.conf nsswitch.conf; do
			[ ! -e /etc/$f ] || mount --bind "$INTEROP_DIR/$f" /etc/$f
		done
		ip link set lo up
		exec "$INTEROP_DIR/interop.test" "$@"' sh "$@"
