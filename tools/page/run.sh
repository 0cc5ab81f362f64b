#!/usr/bin/env bash
# The page of the admin server in a real Chromium, which is installed from Debian's
# packages if it is not there.
set -euo pipefail
cd "$(dirname "$0")/../.."
PURPOSE=page
. .ci/packages
need chromium=chromium redis-server=redis-server

cd tools
"${GO:-go}" vet ./...
export FLEET=1 # the tests with a Redis run here
exec "${GO:-go}" test -count 1 -timeout 5m ./page
