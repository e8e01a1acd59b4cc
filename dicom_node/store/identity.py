"""A storage and a database -> whether they belong together."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from ..errors import Rejected, Unavailable
from ..settings.layout import Layout
from .database import Database
from .durable import make_folder, write_file
from .tables import database_id, job, storage


def join(layout: Layout, database: Database) -> str:
    """Check that the storage belongs to the database; a database that has none yet adopts this one.

    Rows name files of one storage only. With another one, images would be missing, and two nodes on one database would
    take each other's jobs. A new database numbers its jobs from after the folders of results in the storage, so that no
    result is put beside another patient's.

    Returns
    -------
    str
        Identity of the database.

    Raises
    ------
    Rejected
        Where the database belongs to another storage.
    Unavailable
        Where the database has a storage but this one has no identity: it may not be mounted.
    """
    known = identity_of(database)
    with database.reading() as connection:
        own = connection.scalar(sa.select(database_id.c.identity))
    if known is None or own is None:
        with database.writing() as connection:
            database.alone(connection, "identity")
            known, own = _adopt(layout, database, connection), _name(database, connection)
    found = _read(layout)
    if found is None:
        raise Unavailable(
            f"{layout.storage} is not the storage of this database, or not mounted: no {layout.identity}"
        )
    if found != known:
        raise Rejected(f"the database belongs to another storage than {layout.storage}")
    return own


def _read(layout: Layout) -> str | None:
    """Return the identity of the storage that lies there; None where there is none.

    Raises
    ------
    Unavailable
        Where it cannot be read.
    """
    try:
        return layout.identity.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"{layout.identity} cannot be read: {error.strerror}") from error


def _adopt(layout: Layout, database: Database, connection: sa.Connection) -> str:
    """Return the identity of the database's storage; a database that has none adopts this one."""
    known = connection.scalar(sa.select(storage.c.identity))
    if known is None:
        make_folder(layout.storage)
        known = _read(layout)
        if known is None:
            known = uuid.uuid4().hex
            write_file(layout.identity, [known.encode()], make_folder(layout.incoming))
        last = max(_last_results(layout), connection.scalar(sa.select(sa.func.max(job.c.id))) or 0)
        connection.execute(sa.insert(storage).values(identity=known))
        database.begin_after(connection, "job", last)
    return str(known)


def _name(database: Database, connection: sa.Connection) -> str:
    """Return the identity of the database, which is given one when it has none."""
    own = connection.scalar(sa.select(database_id.c.identity))
    if own is None:
        own = uuid.uuid4().hex
        connection.execute(sa.insert(database_id).values(identity=own))
    return str(own)


def present(layout: Layout, known: str | None) -> None:
    """Check that the storage is there, and is the one that `known` identifies; None knows none yet.

    Raises
    ------
    Unavailable
        Where it is another one, or not mounted: what is written there now would be missing later.
    """
    if known is not None and _read(layout) != known:
        raise Unavailable(
            f"the storage {layout.storage} is not mounted: no {layout.identity} of this database"
        )


def identity_of(database: Database) -> str | None:
    """Return the identity of the storage that a database belongs to; None before the node's first start.

    Raises
    ------
    Unavailable
        Where the database cannot be reached.
    """
    with database.reading() as connection:
        known: str | None = connection.scalar(sa.select(storage.c.identity))
    return known


def _last_results(layout: Layout) -> int:
    numbers = [int(path.name) for path in layout.results.glob("*") if path.name.isdecimal()]
    return max(numbers, default=0)
