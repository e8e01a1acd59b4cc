"""A storage and a database -> whether they belong together."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from ..errors import Rejected, Unavailable
from ..settings.layout import Layout
from .database import Database
from .durable import make_folder, write_file
from .tables import job, storage


def join(layout: Layout, database: Database) -> None:
    """See that the storage is the one of the database; a database that knows none yet takes this one.

    Rows name files of one storage only: with another one, images would be missing, and the jobs of a node that uses the
    same database would be taken from it. A database that is made anew begins its jobs behind the folders of results
    that are there, so that no result is laid beside another patient's.

    Raises
    ------
    Rejected
        Where the database belongs to another storage.
    Unavailable
        Where the storage does not say which one it is, though the database knows: it may not be mounted.
    """
    with database.reading() as connection:
        known = connection.scalar(sa.select(storage.c.identity))
    if known is None:
        make_folder(layout.storage)
        if not layout.identity.exists():
            write_file(layout.identity, [uuid.uuid4().hex.encode()], make_folder(layout.incoming))
        known = layout.identity.read_text()
        with database.writing() as connection:
            last = max(_last_results(layout), connection.scalar(sa.select(sa.func.max(job.c.id))) or 0)
            row = {"identity": known, "last_results": last}
            connection.execute(database.insert(storage).values(**row).on_conflict_do_nothing())
            database.begin_after(connection, "job", last)
    if not layout.identity.exists():
        raise Unavailable(
            f"{layout.storage} is not the storage of this database, or not mounted: no {layout.identity}"
        )
    if layout.identity.read_text() != known:
        raise Rejected(f"the database belongs to another storage than {layout.storage}")


def _last_results(layout: Layout) -> int:
    numbers = [int(path.name) for path in layout.results.glob("*") if path.name.isdecimal()]
    return max(numbers, default=0)
