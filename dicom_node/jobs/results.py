"""A job that is done -> its record and its images."""

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
    """Return where the record of a result lies.

    Parameters
    ----------
    place : str
        Number of a job of the node, or a folder of results as `dicom-node run` writes it ("./12" where it is called
        a number).
    layout : Layout
        Of the node's storage.
    database_url : str
        Of the node; asked for a number only.

    Raises
    ------
    Rejected
        Where there is no such job, or it has no result.
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
    """Return the pair of a job, and where its images are stored by SOP Instance UID.

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
