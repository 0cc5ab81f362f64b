#!/usr/bin/env bash
# What is below deploy/ for containers: the manifests for Kubernetes and compose beside
# their schemas and tools, then the image of Dockerfile.release, built by buildah and
# run in a chroot and by podman. What is missing is installed from Debian's or Ubuntu's packages and
# Python's; that is kept below the user's cache. Linux, as root or with sudo.
#
#   deploy/check.sh [-test.run NAME] [-test.v]
set -euo pipefail
cd "$(dirname "$0")/.."

PURPOSE=packages-check
. .ci/packages

need_namespaces
need buildah=buildah podman=podman runc=runc prometheus=prometheus ip=iproute2 nft=nftables curl=curl setpriv=util-linux
[ -x bin/proxyd ] || die "no bin/proxyd: make build"
python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv

venv=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/proxyd-packages/venv-$(sha256sum tools/manifests/requirements.txt | cut -c1-16)
if [ ! -e "$venv/done" ]; then
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r tools/manifests/requirements.txt
	touch "$venv/done"
fi

dir=$(mktemp -d)
trap '"${root[@]}" rm -rf "$dir"' EXIT
chmod 755 "$dir" # the image's user runs in it
go=${GO:-go}

"$go" -C tools vet ./manifests
KUBERNETES_VALIDATE="$venv/bin/kubernetes-validate" PROXYD="$PWD/bin/proxyd" "$go" -C tools test -count 1 ./manifests

# Images of this check alone, without the machine's own.
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/images"\nrunroot = "%s/run"\n' "$dir" "$dir" >"$dir/storage.conf"
buildah=("${root[@]}" env "PATH=$PATH" CONTAINERS_STORAGE_CONF="$dir/storage.conf" BUILDAH_ISOLATION=chroot)
quiet() { "$@" >"$dir/out" 2>&1 || { cat "$dir/out" >&2; die "failed: $*"; }; }
quiet "${buildah[@]}" BUILDER=buildah GO="$go" deploy/image.sh proxyd:check
"${buildah[@]}" buildah inspect --type image proxyd:check >"$dir/inspect.json"
other=dist/build/linux_arm64/proxyd # of make packages
if [ -e $other ] && [ "$("$go" env GOARCH)" != arm64 ]; then
	quiet "${buildah[@]}" BUILDER=buildah GO="$go" PROGRAM=$other deploy/image.sh proxyd:arm64
	quiet grep -q '"Architecture": "arm64"\|"architecture": "arm64"' <("${buildah[@]}" buildah inspect --type image proxyd:arm64)
fi
made=$("${buildah[@]}" buildah from proxyd:check)
"${root[@]}" cp -a "$("${buildah[@]}" buildah mount "$made")" "$dir/root"

"$go" vet -tags image ./deploy
"$go" test -c -tags image -o "$dir/image.test" ./deploy
printf '127.0.0.1 localhost\n172.18.0.2 proxyd\n' >"$dir/hosts"
podman=("${buildah[@]}" podman --cgroup-manager=cgroupfs --runtime=runc)
works=yes
"${podman[@]}" run --rm --network=none --no-healthcheck --ulimit=nofile=1024:1024 --ulimit=nproc=1000:1000 localhost/proxyd:check version >"$dir/out" 2>&1 ||
	{ works=; echo "$PURPOSE: podman runs no containers here, so the image is only run in a chroot: $(tail -1 "$dir/out")"; }

# The end of the first process in its PID namespace ends all others there.
cd deploy
"${root[@]}" env "PATH=$PATH" IMAGE_DIR="$dir" IMAGE_PODMAN="$works" CONTAINERS_STORAGE_CONF="$dir/storage.conf" \
	unshare --mount --net --pid --fork --mount-proc --kill-child sh -euc '
	mount --bind "$IMAGE_DIR/hosts" /etc/hosts
	ip link set lo up
	ip address add 10.1.2.3/32 dev lo
	ip address add 172.18.0.2/32 dev lo
	ip address add 203.0.113.200/32 dev lo
	exec "$IMAGE_DIR/image.test" -test.run Image -test.timeout 5m "$@"' sh "$@"
