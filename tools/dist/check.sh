#!/usr/bin/env bash
# The tests of tools/dist with all that they use: man pages by man and mandoc,
# completions in real shells. What is missing is installed from Debian's packages.
#
#   tools/dist/check.sh [-run NAME] [-v]
set -euo pipefail
cd "$(dirname "$0")/../.."
PURPOSE=packages-check
. .ci/packages
need man=man-db mandoc=mandoc zsh=zsh fish=fish
[ -e /usr/share/bash-completion/bash_completion ] || install_packages bash-completion

cd tools
"${GO:-go}" vet ./dist
exec "${GO:-go}" test -count 1 -timeout 5m ./dist -all "$@"
