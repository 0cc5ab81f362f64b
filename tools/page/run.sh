#!/usr/bin/env bash
# The page of the admin server in a real Chromium, which is installed where it is
# not there (Debian, as root).
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null; then
	log=$(mktemp)
	apt-get update >"$log" 2>&1 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium >>"$log" 2>&1 || {
		tail -5 "$log" >&2
		echo "page: chromium cannot be installed" >&2
		exit 1
	}
fi
"${GO:-go}" vet ./...
exec "${GO:-go}" test -count 1 -timeout 5m ./page
