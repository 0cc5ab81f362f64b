#!/usr/bin/env bash
# A container image of bin/proxyd (make build), or of PROGRAM, and of this machine's CA roots, by docker,
# podman or buildah: the first that is here, or BUILDER. It needs no registry.
#
#   [BUILDER=buildah] [PROGRAM=dist/build/linux_arm64/proxyd] deploy/image.sh [NAME:TAG]      proxyd:latest
set -euo pipefail
cd "$(dirname "$0")/.."

PURPOSE=image
. .ci/packages

program=${PROGRAM:-bin/proxyd}
[ -x "$program" ] || die "no $program: make build, or make packages"
platform=$("${GO:-go}" version -m "$program" | sed -n 's/.*GOOS=//p')/$("${GO:-go}" version -m "$program" | sed -n 's/.*GOARCH=//p')
[ "${platform%/*}" = linux ] || die "$program is for $platform: GOOS=linux make build"

# Where Go looks, too.
for roots in ${CA_ROOTS:-/etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem}; do
	[ ! -s "$roots" ] || break
done
[ -s "$roots" ] || die "no CA roots here: install the package ca-certificates, or set CA_ROOTS=FILE"

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir -p "$context/$platform"
cp "$program" "$context/$platform/proxyd"
cp -L "$roots" "$context/ca-certificates.crt"
chmod 644 "$context/ca-certificates.crt"

git=(git -c safe.directory="$PWD") # root may build what a user has checked out
version=$("$program" version 2>/dev/null | sed -n '1s/^proxyd //p') || true # not if it is for another machine
[ -n "$version" ] || version=$("${git[@]}" describe --tags --always --dirty 2>/dev/null || echo dev)
build=(-f Dockerfile.release -t "${1:-proxyd:latest}" --platform "$platform" --build-arg TARGETPLATFORM="$platform"
	--build-arg VERSION="$version" --build-arg REVISION="$("${git[@]}" rev-parse HEAD 2>/dev/null || true)" "$context")
if [ -z "${BUILDER:-}" ]; then
	if docker info >/dev/null 2>&1; then BUILDER=docker # a client, and its daemon
	elif command -v podman >/dev/null; then BUILDER=podman
	elif command -v buildah >/dev/null; then BUILDER=buildah
	else die "needs docker with its daemon, podman or buildah"
	fi
fi
# Of the two formats, only docker's has health checks.
case $BUILDER in
docker) docker build "${build[@]}" ;;
podman) podman build --format docker "${build[@]}" ;;
buildah) buildah bud --format docker "${build[@]}" ;;
*) die "BUILDER is docker, podman or buildah, not $BUILDER" ;;
esac
