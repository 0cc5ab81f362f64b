#!/usr/bin/env bash
# The rules, their tests and the examples, checked by promtool and amtool; then a
# real Prometheus and Alertmanager with them beside bin/proxyd. What is missing is
# installed from Debian's or Ubuntu's packages, without starting their services.
#
#   deploy/prometheus/check.sh [-test.run NAME] [-test.v]
set -euo pipefail
cd "$(dirname "$0")/../.."

die() { echo "alerts: $*" >&2; exit 1; }

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# program=package
programs=(prometheus=prometheus promtool=prometheus prometheus-alertmanager=prometheus-alertmanager amtool=prometheus-alertmanager)
missing() { for p in "${programs[@]}"; do command -v "${p%%=*}" >/dev/null || echo "${p#*=}"; done | sort -u; }

install() {
	local root=() policy=/usr/sbin/policy-rc.d ours= rc=0
	if [ "$(id -u)" != 0 ]; then
		sudo -n true 2>/dev/null || die "not installed: $*; install them, or run this as root"
		root=(sudo -n)
	fi
	if [ ! -e $policy ]; then # it keeps the services from being started
		ours=yes
		printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null
		"${root[@]}" chmod 755 $policy
	fi
	local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq)
	{ "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@"; } >"$dir/apt.log" 2>&1 || rc=$?
	[ -z "$ours" ] || "${root[@]}" rm -f $policy
	[ $rc = 0 ] || { tail -20 "$dir/apt.log" >&2; die "apt-get could not install: $*"; }
}

packages=$(missing)
if [ -n "$packages" ]; then
	command -v apt-get >/dev/null || die "not installed, and there is no apt-get here:" $packages
	echo "alerts: installing" $packages
	install $packages
	packages=$(missing)
	[ -z "$packages" ] || die "still no program of the packages:" $packages
fi
[ -x bin/proxyd ] || die "no bin/proxyd: make build"

quiet() { "$@" >"$dir/out" 2>&1 || { cat "$dir/out" >&2; die "failed: $*"; }; }
quiet promtool check rules deploy/prometheus/alerts.yaml
quiet promtool check config deploy/prometheus/prometheus.yaml
quiet promtool test rules deploy/prometheus/alerts_test.yaml
quiet amtool check-config deploy/prometheus/alertmanager.yaml

${GO:-go} vet -tags alerts ./deploy
${GO:-go} test -c -tags alerts -o "$dir/alerts.test" ./deploy
cd deploy
"$dir/alerts.test" -test.run 'LostExchange|RefusedReload' -test.timeout 5m "$@"
