"""Results that wait for their destinations, without an analysis before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from analysis.volume import Grid, Volume
from dicom_node.delivery import queue as deliver
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.store.database import Database
from dicom_node.store.tables import delivery, job, result

CT = "1.2.840.10008.5.1.4.1.1.2"


def queue(
    database: Database, storage: Path, *destinations: str, count: int = 3, size: int = 8, now: float = 0.0
) -> list[Path]:
    """A job that is done, and `count` objects of it, `size` x `size` pixels, queued for each destination."""
    shape = count, size, size
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(shape) % 3000 - 1000
    volume = Volume(array.astype(np.int16), Grid.axial(shape, (5.0, 2.0, 2.0)))
    paths = write_ct_series(volume, storage, Scan("result", "delivered"))
    row = {
        "study_uid": "1.2",
        "revision": 1,
        "fingerprint": "f",
        "pair": "",
        "parameters": "",
        "created": 0.0,
    }
    with database.writing() as connection:
        connection.execute(sa.insert(job).values(**row, state="DONE", since=0.0, due_at=0.0))
        for path in paths:
            values = {"sop_instance_uid": path.stem, "sop_class_uid": CT, "path": path.name, "job_id": 1}
            connection.execute(sa.insert(result).values(**values))
        deliver.queue(database, connection, [p.stem for p in paths], destinations, now)
    return paths


def rows(database: Database) -> list[Any]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(delivery).order_by(delivery.c.id)))


def states(database: Database) -> set[str]:
    return {row.state for row in rows(database)}
