#!/bin/sh
# Makes the API reference from the docstrings, build/api/index.html: `sh docs/build.sh`, after `sh deploy/install.sh docs`.
# Fails where a docstring or an annotation cannot be read, or a module has no page.
set -eu
cd "$(dirname "$0")/.."
rm -rf build/api
exec .venv/bin/python docs/api.py
