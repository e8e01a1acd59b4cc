"""Stored images that could not be read, though they may be good: which they are, and to read them again."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from .database import Database
from .tables import instance

#: Reasons why a file is unread where its reader ended; it is tried again, since something else may have killed it.
CRASHES, HANGS = "the file crashes its reader", "the file hangs its reader"
#: Reason where the disk does not give the file: it is read again, since the storage may have been away.
UNREACHABLE = "its file could not be read"
PROBLEMS = (CRASHES, HANGS, UNREACHABLE)


def blamed(database: Database) -> list[tuple[str, str]]:
    """Return the SOP Instance UID and the problem of every such image, the newest first."""
    columns = instance.c.sop_instance_uid, instance.c.problem
    query = sa.select(*columns).where(instance.c.problem.in_(PROBLEMS))
    with database.reading() as connection:
        rows = connection.execute(query.order_by(instance.c.received_at.desc())).all()
    return [(row.sop_instance_uid, row.problem) for row in rows]


def read_again(
    database: Database, problems: Collection[str] = PROBLEMS, limit: int | None = None, uid: str = ""
) -> int:
    """Let images with one of these problems be read again, and return how many.

    Parameters
    ----------
    limit : int, optional
        Most of them; any ones, since always the same would keep the others from their turn.
    uid : str
        SOP Instance UID of the only one; "" for all.
    """
    some = sa.select(instance.c.sop_instance_uid).where(instance.c.problem.in_(problems))
    some = some.where(instance.c.sop_instance_uid == uid) if uid else some
    some = some if limit is None else some.order_by(sa.func.random()).limit(limit)
    with database.writing() as connection:
        again = sa.update(instance).where(instance.c.sop_instance_uid.in_(some)).values(problem=None)
        return connection.execute(again).rowcount
