"""A job that is due -> the attempts to do it, each with a worker, until one leaves a verdict or there were too many."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import sqlalchemy as sa

from ..store import tally
from ..store.database import Database
from ..store.due import is_due
from ..store.events import Event, record
from ..store.members import owned_by_nobody_else
from ..store.tables import job
from .queue import POSTPONED, Job, MoveName, job_of, move

#: Exit code of a worker that could not record its verdict (EX_TEMPFAIL of sysexits.h).
TEMPFAIL = 75
NO_VERDICT = f"ended with exit code {TEMPFAIL}"


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
                return replace(job_of(row), attempt=attempt)
    return None


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
        crashed(database, row.id, row.attempt, max_crashes, "was lost, or its node died", now)
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
