#!/bin/sh
# Writes build/sbom.json, a CycloneDX list of everything that is installed in .venv, with versions and licences:
# `sh deploy/sbom.sh`. Installs cyclonedx-bom, which makes it, into a folder of its own.
set -eu
cd "$(dirname "$0")/.."
tool=build/sbom/bin/cyclonedx-py
[ -x "$tool" ] || { python3 -m venv build/sbom && build/sbom/bin/python -m pip install --quiet cyclonedx-bom; }
"$tool" environment --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom.json .venv
