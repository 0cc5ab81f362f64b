#!/usr/bin/env bash
# The rules, their tests and the examples, checked by promtool and amtool; then a
# real Prometheus and Alertmanager with them beside bin/proxyd. What is missing is
# installed from Debian's or Ubuntu's packages, without starting their services.
#
#   deploy/prometheus/check.sh [-test.run NAME] [-test.v]
set -euo pipefail
cd "$(dirname "$0")/../.."

PURPOSE=alerts
. .ci/packages
need prometheus=prometheus promtool=prometheus prometheus-alertmanager=prometheus-alertmanager amtool=prometheus-alertmanager

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
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
