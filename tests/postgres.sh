#!/bin/sh
# The tests of state, archive and delivery on a real PostgreSQL of their own, gone afterwards: `sh tests/postgres.sh`.
# Run as root (Debian 12): installs postgresql with apt where it is absent.
set -eu
cd "$(dirname "$0")/.."
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql
fi
sh deploy/install.sh test,postgres
bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/initdb | tail -n 1)")
data=$(mktemp -d /tmp/vq-postgres-XXXXXX)
chown postgres "$data"
su postgres -c "$bin/initdb -D $data/db -A trust >/dev/null"
trap 'su postgres -c "$bin/pg_ctl -D $data/db -m immediate stop >/dev/null"; rm -r "$data"' EXIT
su postgres -c "$bin/pg_ctl -D $data/db -l $data/log -w -o \"-k $data -c listen_addresses=''\" start >/dev/null"
VQ_DATABASE="postgresql+psycopg://postgres@/postgres?host=$data" .venv/bin/python -m pytest "$@" \
    tests/dicom_node/store/test_archive.py tests/dicom_node/delivery/test_delivery_queue.py tests/dicom_node/jobs/test_jobs.py \
    tests/dicom_node/node/test_schedule.py tests/dicom_node/intake/test_commitment_scp.py tests/dicom_node/intake/test_mpps.py \
    tests/dicom_node/audit/test_audit.py tests/dicom_node/store/test_retention.py \
    tests/dicom_node/store/test_identity.py tests/dicom_node/store/test_members.py tests/dicom_node/intake/test_indexing.py tests/dicom_node/web/test_plans.py
