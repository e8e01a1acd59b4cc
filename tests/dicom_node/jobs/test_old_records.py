"""Results that older versions made lose their digest of the patient, a few at a time."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from node_values import make_pair

from analysis.parameters import Parameters
from analysis.pipeline.saved import REST
from dicom_node.jobs import old_records
from dicom_node.jobs import queue as jobs
from dicom_node.results.record import NAME
from dicom_node.settings.layout import Layout
from dicom_node.store.database import Database
from dicom_node.store.identity import join
from dicom_node.store.patients import protect
from dicom_node.store.tables import patient_key


def older(path: Path, patient: str) -> bytes:
    """A record as older versions wrote it: its arrays do not matter here."""
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        **{REST: np.array(json.dumps({"patient": patient})), "classes": np.zeros(9)},
    )
    path.parent.mkdir(parents=True)
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def rest(path: Path) -> str:
    with np.load(path, allow_pickle=False) as stored:
        return str(stored[REST])


def test_every_older_result_loses_its_digest_once_and_what_cannot_be_read_stops_none(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path / "storage")
    with database.writing() as connection:
        for n in range(5):
            jobs.create(database, connection, make_pair(f"1.{n}", f"2.{n}"), Parameters(), "1.0", 100.0)
    join(layout, database)
    paths = {n: layout.results_of(n) / NAME for n in (1, 3, 4, 5)}  # job 2 has no result
    for n, path in paths.items():
        older(path, f"digest {n}")
    paths[4].write_bytes(b"damaged")
    protect(layout, database)
    monkeypatch.setattr(old_records, "BATCH", 2)
    assert [old_records.strip(layout, database) for _ in range(4)] == [3, 1, 0, 0]
    assert all("digest" not in rest(paths[n]) for n in (1, 3, 5))
    assert paths[4].read_bytes() == b"damaged"
    with database.reading() as connection:
        assert connection.scalar(sa.select(patient_key.c.records_left)) == 0
