"""What is known of each study -> when to look at it, and what was decided then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from .database import UNINDEXED, Database, instance, study

#: RECEIVING: not looked at yet. WAITING: images to come may complete a pair. REFUSED: only a person can help.
#: PAIRED: there is a job for what is here.
StudyState = Literal["RECEIVING", "WAITING", "REFUSED", "PAIRED"]


@dataclass(frozen=True)
class Due:
    """A study that has been quiet; `due_at` says what was seen of it."""

    study_uid: str
    due_at: float


def touch(
    database: Database, connection: sa.Connection, study_uid: str, received_at: float, quiet: float
) -> None:
    """Images of a study came: look at it once it has been quiet.

    Parameters
    ----------
    received_at : float
        When the last of them came.
    quiet : float
        Seconds.
    """
    insert = database.insert(study).values(
        study_uid=study_uid,
        state="RECEIVING",
        reason="",
        since=received_at,
        received_at=received_at,
        due_at=received_at + quiet,
    )
    last = sa.case(
        (study.c.received_at > insert.excluded.received_at, study.c.received_at),
        else_=insert.excluded.received_at,
    )
    update = {"received_at": last, "due_at": last + quiet}
    connection.execute(insert.on_conflict_do_update(index_elements=["study_uid"], set_=update))


def due(database: Database, now: float, quiet: float) -> list[Due]:
    """Studies to look at: quiet for long enough, and every image that came before read.

    A time further ahead than `quiet` can only come of a clock that was set back; it counts as due.
    """
    unread = sa.exists().where(UNINDEXED, instance.c.received_at <= study.c.due_at)
    when = sa.or_(study.c.due_at <= now, study.c.due_at > now + quiet)
    query = sa.select(study.c.study_uid, study.c.due_at).where(when, ~unread).order_by(study.c.due_at)
    with database.reading() as connection:
        return [Due(row.study_uid, row.due_at) for row in connection.execute(query)]


def settle(connection: sa.Connection, seen: Due, state: StudyState, reason: str, now: float) -> bool:
    """Record what was decided of a study; False, and nothing changed, where images came since it was seen.

    `since` is kept where the state stays.
    """
    since = sa.case((study.c.state == state, study.c.since), else_=now)
    unchanged = sa.and_(study.c.study_uid == seen.study_uid, study.c.due_at == seen.due_at)
    values = {"state": state, "reason": reason, "since": since, "due_at": None}
    return bool(connection.execute(sa.update(study).where(unchanged).values(**values)).rowcount)
