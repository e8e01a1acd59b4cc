#!/bin/sh
# The tests of several machines, all on this one: PostgreSQL, Dask over TLS, SLURM: `sh tests/cluster.sh` (Debian 12, as root).
# `sh tests/run.sh` needs none of it.
set -eu
cd "$(dirname "$0")/.."
absent=
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || absent="postgresql"
command -v slurmctld >/dev/null && command -v slurmd >/dev/null || absent="$absent slurmctld slurmd slurm-client munge"
for tool in storescu openssl pgrep; do command -v $tool >/dev/null || absent="$absent dcmtk openssl procps"; done
if [ "$absent" ]; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $absent
fi
sh deploy/install.sh test,postgres,dask
.venv/bin/python -m pip install --quiet --disable-pip-version-check dask-jobqueue
sh tests/postgres.sh
exec .venv/bin/python -m pytest -n 0 -m slow tests/cluster "$@"
