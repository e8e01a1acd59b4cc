"""Values that several tests of the node share."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

from analysis.volume import Grid, Volume
from dicom_node.delivery import queue as deliver
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.jobs import attempts, worker
from dicom_node.jobs import queue as jobs
from dicom_node.jobs.order import Order
from dicom_node.model import Pair, Series, Slice
from dicom_node.network.association import keep_responses, no_delay
from dicom_node.processes import begin
from dicom_node.store.database import Database
from dicom_node.store.tables import result

CT, EXPLICIT = CTImageStorage, ExplicitVRLittleEndian


def make_slice(uid: str, z: float = 0.0) -> Slice:
    return Slice(
        uid, 1, (0.0, 0.0, z), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 1.0), 64, 64, 2.0, ("1", "B30f")
    )


def make_series(name: str, phase: str | None = None, study: str = "1.2.3", count: int = 3) -> Series:
    slices = tuple(make_slice(f"{name}.{n}", 2.0 * n) for n in range(count))
    return Series(name, study, slices, phase, "SeriesDescription", 2.0, "", "B30f", "")  # type: ignore[arg-type]


def make_pair(insp: str = "1.2.3.1", exp: str = "1.2.3.2", count: int = 3, decided: bool = True) -> Pair:
    phases = ("inspiration", "expiration") if decided else (None, None)
    series = [make_series(name, phase, count=count) for name, phase in zip((insp, exp), phases, strict=True)]
    return Pair(series[0], series[1], decided, "SeriesDescription")


def write_scan(
    folder: Path, description: str, number: int, study: str = "study", slices: int = 24
) -> list[Path]:
    """A small CT series on disk, in slice order."""
    array = np.arange(slices * 64, dtype=np.int16).reshape(slices, 8, 8) - 1000
    volume = Volume(array, Grid.axial((slices, 8, 8), (5.0, 2.0, 2.0)))
    when = datetime(2026, 1, 1, 9, number)
    return write_ct_series(volume, folder / description, Scan(description, study, number, acquired=when))


def send(port: int, paths: list[Path]) -> list[int]:
    """The statuses of a C-STORE of each file over one association."""
    ae = AE("CT1")
    ae.add_requested_context(CT, EXPLICIT)
    assoc = ae.associate("127.0.0.1", port, evt_handlers=[(evt.EVT_CONN_OPEN, no_delay)])
    assert assoc.is_established
    keep_responses(assoc)
    statuses = [int(assoc.send_c_store(dcmread(path)).Status) for path in paths]
    assoc.release()
    return statuses


def quick_run(order: Order) -> None:
    """A worker that finishes its job at once with one small object, whose UID comes from the job."""
    begin(order.prepare)
    database = Database(order.database_url)
    job = jobs.read(database, order.job_id)
    ds = Dataset()
    ds.SOPClassUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.88.34", "SR"
    ds.SOPInstanceUID = f"2.25.{int(job.fingerprint[:16], 16)}"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    made = worker.store(order, [("sr", ds)], {"overview.png": b"png"})
    rows = made.rows
    with database.writing() as connection:
        jobs.move(connection, job.id, "finish", time.time(), during=order.attempt)
        made.publish()
        connection.execute(sa.insert(result).values(job_id=job.id, **rows[0]))
        uids = [row["sop_instance_uid"] for row in rows]
        names = [name for name, kinds in order.destinations if "sr" in kinds]
        deliver.queue(database, connection, uids, names, time.time())


def dying_run(order: Order) -> None:
    """A worker killed in the middle, as by the out-of-memory killer."""
    begin(order.prepare)
    os.kill(os.getpid(), signal.SIGKILL)


def endless_run(order: Order) -> None:
    """A worker that says how far it is, and never ends."""
    begin(order.prepare)
    attempts.progress(
        Database(order.database_url), order.job_id, order.attempt, "registration", 0.5, time.time()
    )
    time.sleep(600)


def image(uid: str = "1.2.3.4") -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CT, uid, "CT"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = EXPLICIT
    return ds
