"""A Pair -> a job: its states and every move between them, in one table."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa

from analysis.parameters import Parameters

from ..errors import Rejected
from ..model import Pair
from ..pairing.pairing import fingerprint
from ..store import tally
from ..store.database import Database
from ..store.due import is_due
from ..store.events import Event, Kind, record
from ..store.members import owned_by_nobody_else
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


#: Exit code of a worker that could not record its verdict (EX_TEMPFAIL of sysexits.h).
TEMPFAIL = 75
NO_VERDICT = f"ended with exit code {TEMPFAIL}"
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


def start_next(database: Database, now: float, owner: str = "") -> Job | None:
    """Take the oldest job that is due for a node; it is RUNNING then, with one more attempt."""
    due = is_due(job.c.due_at, now, POSTPONED)
    query = sa.select(job).where(job.c.state == "READY", due).order_by(job.c.created, job.c.id)
    with database.writing() as connection:
        for row in connection.execute(query.limit(5)).all():
            attempt = row.attempt + 1
            fresh = {"stage": "", "fraction": 0.0, "reason": "", "attempt": attempt}
            fresh |= {"owner": owner, "worker": ""}
            if move(connection, row.id, "start", now, during=row.attempt, **fresh):
                return replace(_job(row), attempt=attempt)
    return None


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
    return _job(row)


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


def progress(database: Database, job_id: int, attempt: int, stage: str, fraction: float, now: float) -> None:
    """Record the progress of a running job; the begin of each stage goes on the timeline of its study."""
    where = job.c.id == job_id, job.c.state == "RUNNING", job.c.attempt == attempt
    with database.writing() as connection:
        before = connection.execute(sa.select(job.c.study_uid, job.c.stage).where(*where)).one_or_none()
        if before is None:
            return
        connection.execute(sa.update(job).where(*where).values(stage=stage, fraction=fraction))
        if stage != before.stage:
            begun = Event(now, "stage", before.study_uid, job_id, stage, f"job {job_id}: {stage}")
            record(connection, begun, f"stage {job_id} {attempt} {stage}")


def interrupt(database: Database, now: float, owner: str = "") -> int:
    """Put a node's running jobs back in an orderly stop, without counting a crash, and return how many there are."""
    mine = sa.select(job.c.id).where(job.c.state == "RUNNING", job.c.owner == owner)
    with database.writing() as connection:
        running = connection.scalars(mine).all()
        return sum(move(connection, number, "interrupt", now, due_at=now) for number in running)


def begun(database: Database, job_id: int, attempt: int, worker: str) -> bool:
    """Take note of what works on an attempt; return False where something does already, or the attempt is over.

    An engine may hand out the same attempt twice, e.g. when it has lost a worker. Only the first one counts: work that
    ended a worker once would otherwise end the next one too, and nobody would count.

    Parameters
    ----------
    worker : str
        Name for an operator, e.g. "host:pid".
    """
    where = job.c.id == job_id, job.c.state == "RUNNING", job.c.attempt == attempt, job.c.worker == ""
    with database.writing() as connection:
        return bool(connection.execute(sa.update(job).where(*where).values(worker=worker[:255])).rowcount)


def is_wanted(database: Database, job_id: int, attempt: int) -> bool:
    """Return whether an attempt may go on: not cancelled, not put back, not given to another worker.

    One that has left its verdict may, too: its process ends by itself.
    """
    may = job.c.state.in_(("RUNNING", "DONE", "REFUSED", "FAILED"))
    where = job.c.id == job_id, may, job.c.attempt == attempt
    with database.reading() as connection:
        return connection.scalar(sa.select(job.c.id).where(*where)) is not None


def running(database: Database) -> set[tuple[int, int]]:
    """Return the number and the attempt of every RUNNING job."""
    query = sa.select(job.c.id, job.c.attempt).where(job.c.state == "RUNNING")
    with database.reading() as connection:
        return {(row.id, row.attempt) for row in connection.execute(query)}


def reconcile(
    database: Database, alive: Collection[int], max_crashes: int, now: float, owner: str = ""
) -> int:
    """Put back every job that is RUNNING but that nobody works on, and return how many there are.

    Its node died, or has said nothing for `members.LEASE_SECONDS`. That counts as a crash of each of its jobs, since
    one of them may be the cause.

    Parameters
    ----------
    alive : collection of int
        Numbers of the jobs that this node's engine works on.
    owner : str
        Name of this node.
    """
    free = owned_by_nobody_else(job.c.owner, owner)
    query = sa.select(job.c.id, job.c.attempt, job.c.owner).where(job.c.state == "RUNNING", free)
    with database.reading() as connection:
        lost = [row for row in connection.execute(query) if row.owner != owner or row.id not in alive]
    for row in lost:
        crashed(database, row.id, row.attempt, max_crashes, "the node died, or lost its process", now)
    return len(lost)


def crashed(database: Database, job_id: int, attempt: int, max_crashes: int, how: str, now: float) -> None:
    """Record that the process of a job ended; change nothing where it left a verdict.

    Otherwise the job is READY again, or FAILED where it has crashed too often.

    Parameters
    ----------
    how : str
        How the process ended, e.g. "ended by signal 9"; `NO_VERDICT` where it could not record its verdict.
    """
    with database.reading() as connection:
        before = connection.scalar(sa.select(job.c.crashes).where(job.c.id == job_id)) or 0
    crashes = before + (how != NO_VERDICT)
    name: MoveName = "interrupt" if crashes < max_crashes else "fail"
    reason = (
        f"{crashes} attempts ended without a result; the process of the last {how}" if name == "fail" else ""
    )
    with database.writing() as connection:
        if move(connection, job_id, name, now, during=attempt, crashes=crashes, reason=reason, due_at=now):
            tally.add(connection, "job crashes", crashes - before)


def postponed(database: Database, job_id: int, attempt: int, reason: str, now: float) -> None:
    """Put back a job that could not begin, to be tried later, without counting a crash."""
    with database.writing() as connection:
        move(connection, job_id, "postpone", now, during=attempt, reason=reason, due_at=now + POSTPONED)


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


def given_up(database: Database, attempts: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return which of these attempts are to be ended: an operator cancelled the job, or another node took it over."""
    if not attempts:
        return set()
    query = sa.select(job.c.id, job.c.attempt, job.c.state).where(job.c.id.in_([n for n, _ in attempts]))
    with database.reading() as connection:
        now = {row.id: row for row in connection.execute(query)}
    return {
        (n, attempt)
        for n, attempt in attempts
        if n in now and (now[n].state == "CANCELLED" or now[n].attempt != attempt)
    }


def study_of(connection: sa.Connection, sop_instance_uid: str) -> str:
    """Return the study of the job that made a result."""
    query = sa.select(job.c.study_uid).join(result, result.c.job_id == job.c.id)
    return str(connection.scalar(query.where(result.c.sop_instance_uid == sop_instance_uid)))


def _job(row: sa.Row[Any]) -> Job:
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
