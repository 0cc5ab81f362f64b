#!/usr/bin/env bash
# What proxyds share by a real Redis: internal/fleet, and several real processes (e2e). It
# is apart from `make check`, as a fleet leaves a Redis that takes longer than 50 ms.
set -euo pipefail
cd "$(dirname "$0")/.."
PURPOSE=fleet
. .ci/packages

need redis-server=redis-server redis-sentinel=redis-sentinel curl=curl

export FLEET=1 TESTS=required
names=$(grep -ho '^func Test[A-Za-z0-9]*' e2e/fleet_*_test.go | cut -d' ' -f2 | paste -sd'|')
"${GO:-go}" test -count 1 -p 1 ./internal/fleet
"${GO:-go}" test -count 1 -parallel 2 ./e2e -run "^($names)\$"
