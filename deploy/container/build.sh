#!/bin/sh
# Makes the wheels and the image: `sh deploy/container/build.sh [TAG]`. With BASE_ROOTFS=FOLDER the base is that root file
# system (mmdebstrap) instead of an image of a registry. Needs buildah, or docker where there is no buildah.
set -eu
cd "$(dirname "$0")/../.."
tag=${1:-vq-dicom-node}
[ -x .venv/bin/python ] || sh deploy/install.sh
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp deploy/container/Dockerfile "$context"
mkdir "$context/wheels"
.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --wheel-dir "$context/wheels" ".[postgres,dask]"
set -- --build-arg "REVISION=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
if ! command -v buildah >/dev/null; then
    exec docker build "$@" --tag "$tag" "$context"
fi
# without a daemon and without new namespaces, as in a container
bud() { buildah --storage-driver vfs bud --isolation chroot --format docker "$@"; }
if [ "${BASE_ROOTFS:-}" ]; then
    tar -C "$BASE_ROOTFS" -cf "$context/rootfs.tar" .
    printf 'FROM scratch\nADD rootfs.tar /\n' > "$context/Base"
    bud --file "$context/Base" --tag vq-dicom-node-base "$context"
    rm "$context/rootfs.tar"
    set -- "$@" --build-arg BASE=localhost/vq-dicom-node-base
fi
bud "$@" --tag "$tag" "$context"
