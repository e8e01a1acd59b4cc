#!/bin/sh
# Installs what the tests need (dcmtk, Orthanc, pdftotext; the rest into .venv) and runs them: `sh tests/run.sh [pytest options]`.
set -eu
cd "$(dirname "$0")/.."
if ! command -v storescu >/dev/null || ! command -v Orthanc >/dev/null || ! command -v pdftotext >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq dcmtk orthanc orthanc-dicomweb poppler-utils
fi
sh deploy/install.sh test
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest "$@"
