"""A Pair -> a job: its states and every move between them, in one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from analysis.parameters import Parameters

from ..errors import Rejected
from ..model import Pair
from ..pairing.pairing import fingerprint
from ..store import tally
from ..store.database import Database
from ..store.events import Event, Kind, record
from ..store.tables import job, result
from ..strict_json import dump, load

JobState = Literal["READY", "RUNNING", "DONE", "REFUSED", "FAILED", "SUPERSEDED", "CANCELLED"]
MoveName = Literal[
    "start", "finish", "refuse", "fail", "interrupt", "postpone", "supersede", "retry", "remake", "cancel"
]

LOG = logging.getLogger(__name__)

#: Pause before a job is tried again after the disk or the database could not be reached (s); no pause is longer.
POSTPONED = 30.0


@dataclass(frozen=True)
class Move:
    """One move between states, possible only from its source states."""

    letter: str
    sources: tuple[JobState, ...]
    target: JobState
    why: str


#: A job is created READY (a). No other move exists.
MOVES: Mapping[MoveName, Move] = {
    "start": Move("b", ("READY",), "RUNNING", "a worker takes it"),
    "finish": Move("c", ("RUNNING",), "DONE", "results are stored and queued for every destination"),
    "refuse": Move("d", ("RUNNING",), "REFUSED", "the images cannot give a valid result"),
    "fail": Move("e", ("RUNNING",), "FAILED", "a fault of the software, or its process died too often"),
    "interrupt": Move("f", ("RUNNING",), "READY", "its process or the node ended"),
    "postpone": Move(
        "g", ("RUNNING",), "READY", "the disk, the database or the engine was away; tried again later"
    ),
    "supersede": Move("h", ("READY",), "SUPERSEDED", "more images came before it began"),
    "retry": Move("i", ("REFUSED", "FAILED", "CANCELLED"), "READY", "an operator asks"),
    "cancel": Move("j", ("READY", "RUNNING"), "CANCELLED", "an operator asks; its process is ended"),
    "remake": Move("k", ("DONE",), "READY", "a file of its results was damaged or missing"),
}


@dataclass(frozen=True)
class Job:
    """The values of a job that a worker needs."""

    id: int
    study_uid: str
    revision: int
    fingerprint: str
    pair: Pair
    parameters: Parameters
    created: float
    attempt: int
    crashes: int


def create(
    database: Database,
    connection: sa.Connection,
    pair: Pair,
    parameters: Parameters,
    version: str,
    now: float,
) -> int | None:
    """Queue a pair as the next revision of its study's result, superseding older jobs that have not begun.

    Returns
    -------
    int or None
        Number of the job; None where there is already a job with this fingerprint.
    """
    study_uid = pair.expiratory.study_instance_uid
    mark = fingerprint(pair, parameters, version)
    last = connection.scalar(sa.select(sa.func.max(job.c.revision)).where(job.c.study_uid == study_uid)) or 0
    other = pair.inspiratory.study_instance_uid
    insert = database.insert(job).values(
        study_uid=study_uid,
        other_study_uid=None if other == study_uid else other,
        revision=last + 1,
        fingerprint=mark,
        pair=dump(pair),
        parameters=dump(parameters),
        created=float(round(now)),
        state="READY",
        since=now,
        due_at=now,
    )
    if not connection.execute(insert.on_conflict_do_nothing(index_elements=["fingerprint"])).rowcount:
        # the job's images were removed and have come again: it gets their list back
        removed = job.c.fingerprint == mark, job.c.pair == ""
        connection.execute(sa.update(job).where(*removed).values(pair=dump(pair)))
        return None
    number = connection.scalar(sa.select(job.c.id).where(job.c.fingerprint == mark))
    older = sa.select(job.c.id).where(job.c.study_uid == study_uid, job.c.revision <= last)
    for old in connection.scalars(older).all():
        move(connection, old, "supersede", now, reason=f"superseded by revision {last + 1}")
    return int(number or 0)


def move(
    connection: sa.Connection,
    job_id: int,
    name: MoveName,
    now: float,
    during: int | None = None,
    **values: Any,
) -> bool:
    """Make one move; where the job is in none of its source states, change nothing and return False.

    Parameters
    ----------
    during : int, optional
        Number of the attempt that the job must be in, so that an abandoned worker cannot finish the run of another.
    **values
        Values of further columns.
    """
    step = MOVES[name]
    where = [job.c.id == job_id, job.c.state.in_(step.sources)]
    if during is not None:
        where.append(job.c.attempt == during)
    changed = {"state": step.target, "since": now, **values}
    began = connection.scalar(sa.select(job.c.since).where(job.c.id == job_id))
    if not connection.execute(sa.update(job).where(*where).values(**changed)).rowcount:
        return False
    _tell(connection, job_id, name, now, now - (began or now))
    return True


#: The event of each move; other moves change only the state.
TOLD: Mapping[str, Kind] = {
    "start": "started",
    "finish": "result",
    "refuse": "refused",
    "fail": "failed",
    "interrupt": "job",
    "postpone": "job",
    "supersede": "job",
    "cancel": "job",
    "retry": "job",
    "remake": "job",
}
#: Moves that end a job.
ENDS = frozenset({"finish", "refuse", "fail", "supersede", "cancel"})


def _tell(connection: sa.Connection, job_id: int, name: MoveName, now: float, seconds: float) -> None:
    """Count a move, and put it on the timeline of its study.

    Parameters
    ----------
    seconds : float
        Time that the job was in the state before (s).
    """
    columns = job.c.study_uid, job.c.attempt, job.c.reason, job.c.state
    row = connection.execute(sa.select(*columns).where(job.c.id == job_id)).one()
    if name in ENDS:
        tally.add(connection, "jobs", outcome=row.state)
    if name == "finish":
        tally.add(connection, "job seconds", max(seconds, 0.0))
    text = f"job {job_id} {row.state}, attempt {row.attempt}" + (f": {row.reason}" if row.reason else "")
    # a job that makes damaged results again has told of them already
    once = f"result {job_id}" if name == "finish" else None
    record(connection, Event(now, TOLD[name], row.study_uid, job_id, text=text), once)


def read(database: Database, job_id: int) -> Job:
    """Return the job of this number.

    Raises
    ------
    Rejected
        Where there is no such job, or its images were removed.
    """
    with database.reading() as connection:
        row = connection.execute(sa.select(job).where(job.c.id == job_id)).one_or_none()
    if row is None:
        raise Rejected(f"there is no job {job_id}")
    if not row.pair:
        raise Rejected(f"the images of job {job_id} were removed")
    return job_of(row)


def state_of(database: Database, job_id: int) -> str:
    """Return the state of a job.

    Raises
    ------
    Rejected
        Where there is no such job.
    """
    with database.reading() as connection:
        state = connection.scalar(sa.select(job.c.state).where(job.c.id == job_id))
    if state is None:
        raise Rejected(f"there is no job {job_id}")
    return str(state)


def retry(database: Database, job_id: int, now: float) -> None:
    """Run a refused, failed or cancelled job again.

    Raises
    ------
    Rejected
        Where the job is in another state, or there is no such job.
    """
    read(database, job_id)
    with database.writing() as connection:
        if not move(connection, job_id, "retry", now, due_at=now, crashes=0, reason=""):
            raise Rejected(f"job {job_id} is neither REFUSED, FAILED nor CANCELLED")


def remake(database: Database, job_id: int, now: float) -> None:
    """Run a job with damaged results again; from the same images it makes the same bytes and UIDs."""
    reason = "a file of its results was damaged or missing: they are made again"
    with database.writing() as connection:
        kept = connection.scalar(sa.select(job.c.pair).where(job.c.id == job_id))
        if kept and move(connection, job_id, "remake", now, due_at=now, crashes=0, reason=reason):
            LOG.warning("job %d: %s", job_id, reason)


def cancel(database: Database, job_id: int, now: float) -> None:
    """Cancel a job that has not ended.

    Raises
    ------
    Rejected
        Where the job has ended, or there is no such job.
    """
    read(database, job_id)
    with database.writing() as connection:
        if not move(connection, job_id, "cancel", now, reason="cancelled by an operator", stage=""):
            raise Rejected(f"job {job_id} is neither READY nor RUNNING")


def study_of(connection: sa.Connection, sop_instance_uid: str) -> str:
    """Return the study of the job that made a result."""
    query = sa.select(job.c.study_uid).join(result, result.c.job_id == job.c.id)
    return str(connection.scalar(query.where(result.c.sop_instance_uid == sop_instance_uid)))


def job_of(row: sa.Row[Any]) -> Job:
    """Return the job of a row of the table."""
    return Job(
        id=row.id,
        study_uid=row.study_uid,
        revision=row.revision,
        fingerprint=row.fingerprint,
        pair=load(Pair, row.pair),
        parameters=load(Parameters, row.parameters),
        created=row.created,
        attempt=row.attempt,
        crashes=row.crashes,
    )
