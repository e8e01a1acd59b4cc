#!/bin/sh
# Installs what the tests need (dcmtk, Orthanc, pdftotext, ps; the rest into .venv) and runs them: `sh tests/run.sh [pytest options]`.
set -eu
cd "$(dirname "$0")/.."
for tool in storescu Orthanc pdftotext openssl ps; do command -v $tool >/dev/null || missing=yes; done
if [ "${missing:-}" ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq dcmtk orthanc orthanc-dicomweb poppler-utils openssl procps
fi
sh deploy/install.sh test
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
sh docs/build.sh
# a file at a time on each of two cores: fixtures are made a file
exec .venv/bin/python -m pytest -n 2 --dist loadfile "$@"
