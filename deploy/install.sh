#!/bin/sh
# Installs the node into .venv beside this checkout: `sh deploy/install.sh [EXTRA]`, e.g. `test`.
# Installs Python's venv package first where a Debian machine lacks it.
set -eu
cd "$(dirname "$0")/.."
ready='import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'
if ! python3 -c "$ready" 2>/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3 python3-venv
fi
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".${1:+[$1]}"
