#!/bin/sh
# Writes deploy/requirements.lock, the exact version and hash of everything that a repeatable install needs:
# `sh deploy/lock.sh`. Versions that the lock holds already stay; `sh deploy/lock.sh --upgrade` takes the newest.
# It holds the driver of PostgreSQL and setuptools, with which pip builds this package, too. Needs a network.
set -eu
cd "$(dirname "$0")/.."
[ -x build/lock/bin/uv ] || { python3 -m venv build/lock && build/lock/bin/python -m pip install --quiet uv; }
# no index, local folder or path of this machine may get into the file
unset UV_INDEX_URL UV_EXTRA_INDEX_URL UV_FIND_LINKS
sed -n 's/^requires = \["\(setuptools.*\)"\]$/\1/p' pyproject.toml |
    build/lock/bin/uv pip compile pyproject.toml - --extra postgres --universal --python-version 3.11 \
        --generate-hashes --no-config --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "sh deploy/lock.sh" --quiet --output-file deploy/requirements.lock "$@"
