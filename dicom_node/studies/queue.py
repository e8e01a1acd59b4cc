"""The facts known of each study -> when to look at it, and the decision that was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from ..errors import Rejected
from ..model import Phase
from ..store import tally
from ..store.database import Database
from ..store.due import is_due
from ..store.events import Event, Kind, record
from ..store.tables import (
    UNINDEXED,
    assignment,
    instance,
    joined_study,
    performed_image,
    performed_step,
    performed_study,
    study,
)

#: The events that a decision makes, where it is another one than before.
TOLD: Mapping[str, Kind] = {"REFUSED": "refused", "OVERDUE": "waiting"}

#: RECEIVING: not looked at yet. WAITING: further images may complete a pair, until `due_at`. OVERDUE: they did not
#: arrive by then. REFUSED: only a person can help. PAIRED: its images have a job. REMOVED: its images were removed.
StudyState = Literal["RECEIVING", "WAITING", "OVERDUE", "REFUSED", "PAIRED", "REMOVED"]


@dataclass(frozen=True)
class Due:
    """A study that has been quiet or whose deadline has passed; a new `due_at` tells that images came meanwhile."""

    study_uid: str
    due_at: float
    state: StudyState
    since: float


def touch(
    database: Database, connection: sa.Connection, study_uid: str, received_at: float, quiet: float
) -> None:
    """Take note that images of a study came, and look at it once it has been quiet.

    Parameters
    ----------
    received_at : float
        Time at which the last of them was received (s since 1970).
    quiet : float
        Time without new images after which a study is looked at (s).
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


def due(database: Database, now: float, quiet: float, wait: float) -> list[Due]:
    """Return the studies that are due: quiet or past their deadline, with the header of every image read."""
    unread = sa.exists().where(UNINDEXED, instance.c.received_at <= study.c.due_at)
    ahead = sa.case((study.c.state == "WAITING", max(quiet, wait)), else_=quiet)
    when = is_due(study.c.due_at, now, ahead)
    columns = study.c.study_uid, study.c.due_at, study.c.state, study.c.since
    query = sa.select(*columns).where(when, ~unread).order_by(study.c.due_at)
    with database.reading() as connection:
        return [Due(*row) for row in connection.execute(query)]


def hasten(database: Database, now: float, quiet: float) -> list[str]:
    """Make studies due that their scanner reports as finished, if every image that it lists is here.

    A procedure step (MPPS) of the study is COMPLETED and none is IN PROGRESS; otherwise, or where a listed
    image is missing, the study is due once it has been quiet, as any other.
    """
    quiet_yet = sa.and_(study.c.due_at > now, study.c.due_at == study.c.received_at + quiet)
    mine = performed_study.c.study_uid == study.c.study_uid
    steps = performed_study.join(
        performed_step, performed_step.c.sop_instance_uid == performed_study.c.step_uid
    )
    going_on = sa.exists().select_from(steps).where(mine, performed_step.c.state == "IN PROGRESS")
    images = steps.join(performed_image, performed_image.c.step_uid == performed_study.c.step_uid)
    listed = sa.exists().select_from(images).where(mine, performed_step.c.state == "COMPLETED")
    missing = listed.where(
        ~sa.exists().where(instance.c.sop_instance_uid == performed_image.c.sop_instance_uid)
    )
    where = quiet_yet, listed, ~going_on, ~missing
    with database.reading() as connection:
        found = connection.scalars(sa.select(study.c.study_uid).where(*where)).all()
    if found:
        with database.writing() as connection:
            connection.execute(sa.update(study).where(*where).values(due_at=now))
    return list(found)


def settle(
    connection: sa.Connection, seen: Due, state: StudyState, reason: str, now: float, wait: float
) -> bool:
    """Record the decision on a study; where images came since it was read, change nothing and return False.

    `since` is kept where the state stays the same. A WAITING study gets a deadline, `wait` seconds after it began to
    wait; past the deadline it is OVERDUE.
    """
    since = seen.since if seen.state == state else now
    deadline = None
    if state == "WAITING":
        deadline = since + wait
        if deadline <= now:
            state, since, deadline = "OVERDUE", now, None
            reason = f"not complete after {wait / 3600:g} h: {reason}"
    search_at = None if deadline is None else now
    unchanged = sa.and_(study.c.study_uid == seen.study_uid, study.c.due_at == seen.due_at)
    values = {"state": state, "reason": reason, "since": since, "due_at": deadline, "search_at": search_at}
    settled = bool(connection.execute(sa.update(study).where(unchanged).values(**values)).rowcount)
    if settled and state != seen.state:
        _tell(connection, seen.study_uid, state, reason, now)
    return settled


def _tell(connection: sa.Connection, study_uid: str, state: StudyState, reason: str, now: float) -> None:
    """Count a decision, and put it on the timeline of its study."""
    tally.add(connection, "studies", outcome=state)
    text = f"{state}: {reason}" if reason else state
    record(connection, Event(now, TOLD.get(state, "decided"), study_uid, text=text))


def to_search(database: Database, now: float, pause: float) -> list[str]:
    """Return the studies whose other phase must be searched for now."""
    when = is_due(study.c.search_at, now, pause)
    query = sa.select(study.c.study_uid).where(study.c.state == "WAITING", when).order_by(study.c.search_at)
    with database.reading() as connection:
        return list(connection.scalars(query))


def searched(database: Database, study_uid: str, search_at: float, found: str) -> None:
    """Record what a search found and when to search again."""
    where = study.c.study_uid == study_uid, study.c.state == "WAITING"
    with database.writing() as connection:
        connection.execute(sa.update(study).where(*where).values(search_at=search_at, search=found))


def stored(database: Database, study_uid: str) -> dict[str, int]:
    """Return the number of instances stored here of each series of a study."""
    counts = sa.select(instance.c.series_uid, sa.func.count()).where(instance.c.study_uid == study_uid)
    with database.reading() as connection:
        return {uid: n for uid, n in connection.execute(counts.group_by(instance.c.series_uid))}


def look_now(database: Database, study_uid: str, now: float) -> None:
    """Record an operator's word that a study is complete, so that it is decided on at the next tick.

    Raises
    ------
    Rejected
        Where no image of it is here.
    """
    with database.writing() as connection:
        now_due = sa.update(study).where(study.c.study_uid == study_uid).values(due_at=now)
        if not connection.execute(now_due).rowcount:
            raise Rejected(f"there is no study {study_uid}")


def assign(database: Database, series_uid: str, phase: Phase | Literal["none"], now: float) -> str:
    """Record an operator's word on a series (a phase, or no part of a pair); return its study, which is now due.

    Raises
    ------
    Rejected
        Where no image of it is here.
    """
    with database.writing() as connection:
        own = sa.select(instance.c.study_uid).where(instance.c.series_uid == series_uid).limit(1)
        study_uid = connection.scalar(own)
        if study_uid is None:
            raise Rejected(f"there is no series {series_uid}")
        insert = database.insert(assignment).values(series_uid=series_uid, phase=phase)
        connection.execute(insert.on_conflict_do_update(index_elements=["series_uid"], set_={"phase": phase}))
    look_now(database, study_uid, now)
    return str(study_uid)


def join(database: Database, study_uid: str, with_uid: str, now: float) -> None:
    """Record an operator's word that two studies are one examination, with a phase in each; both are now due.

    Raises
    ------
    Rejected
        Where a study has no images here, or both UIDs name the same study.
    """
    if study_uid == with_uid:
        raise Rejected(f"study {study_uid} cannot be joined with itself")
    for uid in (study_uid, with_uid):
        look_now(database, uid, now)
    pairs = [{"study_uid": a, "with_uid": b} for a, b in ((study_uid, with_uid), (with_uid, study_uid))]
    with database.writing() as connection:
        connection.execute(database.insert(joined_study).on_conflict_do_nothing(), pairs)


def joined(database: Database, study_uid: str) -> list[str]:
    """Return the studies that an operator joined with this one."""
    query = sa.select(joined_study.c.with_uid).where(joined_study.c.study_uid == study_uid)
    with database.reading() as connection:
        return list(connection.scalars(query.order_by(joined_study.c.with_uid)))


#: Most recent studies that are checked for the other phase of a study.
LATELY = 500


def companions(database: Database, study_uid: str, since: float) -> list[str]:
    """Return other studies that came since a time and were decided on, which may hold the other phase."""
    settled = study.c.state.in_(("WAITING", "OVERDUE", "PAIRED")), study.c.received_at >= since
    query = sa.select(study.c.study_uid).where(study.c.study_uid != study_uid, *settled)
    with database.reading() as connection:
        return list(connection.scalars(query.order_by(study.c.received_at.desc()).limit(LATELY)))


def paired_too(connection: sa.Connection, study_uid: str, reason: str, now: float) -> None:
    """Record that the other study of a pair is PAIRED too and waits no longer."""
    where = study.c.study_uid == study_uid, study.c.state.in_(("WAITING", "OVERDUE"))
    values = {"state": "PAIRED", "reason": reason, "since": now, "due_at": None, "search_at": None}
    if connection.execute(sa.update(study).where(*where).values(**values)).rowcount:
        _tell(connection, study_uid, "PAIRED", reason, now)


def assigned(database: Database) -> dict[str, str]:
    """Return the phases that operators assigned, by Series Instance UID."""
    with database.reading() as connection:
        return {row.series_uid: row.phase for row in connection.execute(sa.select(assignment))}
