"""A job that is done -> its files."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from ..errors import Rejected
from ..results.record import NAME
from ..store.database import Database
from ..store.tables import job


def find(place: str, storage: Path, database_url: str) -> Path:
    """Where the record of a result lies.

    Parameters
    ----------
    place : str
        Number of a job of the node, or a folder of results as `dicom-node run` writes it ("./12" where it is called
        a number).
    storage : Path
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
    with database.reading() as connection:
        state = connection.scalar(sa.select(job.c.state).where(job.c.id == int(place)))
    database.close()
    if state != "DONE":
        raise Rejected(f"job {place} is {state}" if state else f"there is no job {place}")
    return storage / "results" / place / NAME
