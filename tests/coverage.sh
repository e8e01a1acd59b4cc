#!/bin/sh
# Measures which lines and branches the tests run, child processes included: `sh tests/coverage.sh [pytest options]`.
# Takes longer than `sh tests/run.sh`, which it needs to have run once. The pages: build/coverage/html/index.html.
# Loops that numba compiles (`njit`) count as not run: no Python runs in them.
set -u
cd "$(dirname "$0")/.."
rm -rf build/coverage
mkdir -p build/coverage
.venv/bin/coverage run -m pytest -n 2 --dist loadfile "$@"
failed=$?
.venv/bin/coverage combine --quiet && .venv/bin/coverage html --quiet -d build/coverage/html && .venv/bin/coverage report
exit $failed
