"""A finished job -> its record and its images."""

from __future__ import annotations

from pathlib import Path

from ..errors import Rejected
from ..model import Pair
from ..results.record import NAME
from ..settings.layout import Layout
from ..store.archive import Archive
from ..store.database import Database
from . import queue


def find(place: str, layout: Layout, database_url: str) -> Path:
    """Return the path of the record of a result.

    Parameters
    ----------
    place : str
        Number of a job, or a folder of results as `dicom-node run` writes it ("./12" where its name is a number).
    layout : Layout
        Names in the node's storage.
    database_url : str
        URL of the node's database, which is opened only for a number.

    Raises
    ------
    Rejected
        Where there is no such job, or the job has no result.
    """
    if not place.isdecimal():
        return Path(place) / NAME
    database = Database(database_url)
    state = queue.state_of(database, int(place))
    database.close()
    if state != "DONE":
        raise Rejected(f"job {place} is {state}")
    return layout.results_of(int(place)) / NAME


def images(job_id: int, layout: Layout, database_url: str) -> tuple[Pair, dict[str, Path]]:
    """Return the pair of a job, and the files of its images by SOP Instance UID.

    Raises
    ------
    Rejected
        Where there is no such job.
    """
    database = Database(database_url)
    pair = queue.read(database, job_id).pair
    uids = (*pair.inspiratory.sop_instance_uids, *pair.expiratory.sop_instance_uids)
    paths = Archive(layout.storage, database).paths(uids)
    database.close()
    return pair, paths
