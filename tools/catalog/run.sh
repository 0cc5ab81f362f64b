#!/bin/sh
# Compares the catalogue with the newest ccxt that pip installs, in a virtual
# environment that is thrown away. SNAPSHOT=1 writes what ccxt names to
# internal/catalog/testdata/ccxt.csv too, which the tests hold the catalogue to.
set -eu
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" || {
	echo "catalog: python3 with venv is needed; the catalogue was not compared" >&2
	exit 1
}
"$dir/venv/bin/pip" install -q --disable-pip-version-check ccxt >"$dir/log" 2>&1 || {
	tail -n 3 "$dir/log" >&2
	echo "catalog: the package registry cannot be reached, or serves no ccxt; the catalogue was not compared" >&2
	exit 1
}
"$dir/venv/bin/python" tools/catalog/describe.py >"$dir/ccxt.csv"
version=$("$dir/venv/bin/python" -c 'import ccxt; print(ccxt.__version__)')
if [ "${SNAPSHOT:-}" = 1 ]; then
	cp "$dir/ccxt.csv" internal/catalog/testdata/ccxt.csv
fi
python3 tools/catalog/compare.py internal/catalog "$dir/ccxt.csv" "$version"
