#!/usr/bin/env bash
# Measures proxyd beside other forward proxies on this machine, in one run:
#
#   bench/run.sh                      all workloads, 5 rounds, about 35 minutes
#   ROUNDS=1 TIME=2s bench/run.sh     a first look
#   WORK=setup,messages bench/run.sh  some of: setup bulk bulk8 messages fast pingpong mixed mixed4 apart apart4 idle get
#   PROCS=1 WORK=mixed,apart …        the candidates with one processor (GOMAXPROCS)
#   OUT=table.md bench/run.sh         the tables into a file, too
#
# As root it installs the programs of Debian that are missing (tinyproxy, squid,
# dante-server, microsocks); otherwise it measures those that are there. Linux
# only; traffic stays on 127.0.0.0/8. Let the machine do nothing else meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v tinyproxy squid danted microsocks >/dev/null; then
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
		tinyproxy squid dante-server microsocks >/dev/null || echo "bench: not everything could be installed" >&2
fi
ulimit -n "$(ulimit -Hn)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/proxyd" ./cmd/proxyd
go build -o "$work/bench" ./bench

# have NAME PROGRAM adds a candidate if the program is there.
have() {
	local bin
	if bin=$(PATH="$PATH:/usr/sbin" command -v "$2"); then bins="$bins,$1=$bin"; else echo "bench: no $1 here" >&2; fi
}

rounds=(-rounds "${ROUNDS:-5}" -time "${TIME:-4s}" -idle "${IDLE:-3000}" -procs "${PROCS:-0}")
bins="proxyd=$work/proxyd,io.Copy=$work/bench"
have tinyproxy tinyproxy
have squid squid
have gost gost
have glider glider
{
	echo "## Through an HTTP upstream"
	"$work/bench" -bins "$bins" -work "${WORK:-setup,bulk,bulk8,messages,fast,pingpong,mixed,mixed4,apart,apart4,idle,get}" "${rounds[@]}"
	bins="proxyd=$work/proxyd"
	have dante danted
	have microsocks microsocks
	echo
	echo "## Directly, asked by SOCKS5"
	"$work/bench" -direct -bins "$bins" -work "${DIRECT_WORK:-setup,bulk,messages,pingpong,idle}" "${rounds[@]}"
	echo
	echo "## proxyd as tunnels grow"
	echo
	"$work/bench" -bins "proxyd=$work/proxyd" -curve "${CURVE:-1,10,100,1000,9900}" -time 3s -rounds "${CURVE_ROUNDS:-1}"
	echo
	echo "## proxyd through an https upstream"
	"$work/bench" -tls -bins "proxyd=$work/proxyd" -work "${TLS_WORK:-bulk,messages,idle}" "${rounds[@]}"
} | tee "${OUT:-/dev/null}"
