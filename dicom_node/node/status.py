"""The database and the pulse -> typed values that say what is waiting, running, sent and failed, and why."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from ..settings.config import Config
from ..store.database import Database
from ..store.heartbeat import Pulse, read_pulse, runs
from ..store.tables import (
    UNINDEXED,
    UNREADABLE,
    commitment,
    delivery,
    instance,
    job,
    notification,
    performed_image,
    performed_step,
    performed_study,
    quarantine,
    result,
    study,
)

Row = TypeVar("Row")
#: Schema of the JSON that `dicom-node status --json` prints.
SCHEMA = "vq-dicom-node status 1"


@dataclass(frozen=True)
class Instances:
    """The numbers of SOP instances."""

    stored: int
    to_be_read: int
    unreadable: int
    quarantined: int


@dataclass(frozen=True)
class Unreadable:
    """A stored instance that cannot be read."""

    sop_instance_uid: str
    received_at: float
    calling_ae: str
    problem: str


@dataclass(frozen=True)
class Study:
    """A study with its images, its state and the decision on it.

    Parameters
    ----------
    due_at : float or None
        Time at which it is next looked at, or stops waiting (s since 1970).
    search : str
        Result of the last search in the PACS.
    instances : int
        Number of images stored here.
    listed, missing : int
        Number of images that its scanner lists by MPPS, and of those that are not here.
    """

    study_uid: str
    state: str
    reason: str
    since: float
    due_at: float | None
    search: str
    instances: int
    listed: int
    missing: int


@dataclass(frozen=True)
class Job:
    """A job and its progress."""

    id: int
    study_uid: str
    revision: int
    state: str
    since: float
    stage: str
    fraction: float
    attempt: int
    reason: str
    due_at: float


@dataclass(frozen=True)
class Delivery:
    """The objects of a job that are in one state at one destination."""

    job_id: int
    destination: str
    state: str
    objects: int
    attempts: int
    due_at: float | None
    reason: str


@dataclass(frozen=True)
class Commitment:
    """A request for storage commitment that is not reported yet, or was reported with failures."""

    transaction_uid: str
    calling_ae: str
    state: str
    objects: int
    failed: int | None
    attempts: int
    due_at: float
    reason: str


@dataclass(frozen=True)
class Notices:
    """The notifications of a channel that are in one state, with the reason of the newest."""

    channel: str
    state: str
    events: int
    attempts: int
    due_at: float | None
    reason: str


@dataclass(frozen=True)
class Counts:
    """How many there are in each state, of all that are in the database."""

    studies: Mapping[str, int] = field(default_factory=dict)
    jobs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """Whether a node runs with a configuration, and the room on its disk.

    Parameters
    ----------
    runs : bool
        True while a node holds the storage.
    problem : str
        What is wrong with it, in one sentence; "" for nothing.
    version : str
        Of the node that runs, or ran last; "" where none has.
    started, ticked : float or None
        Time of its start and of its last tick (s since 1970).
    port, accepting, acceptors : int
        Port on which it receives; number of processes that accept connections, and number that should.
    free, size, low : float
        Free space and size of the disk, and free space below which nothing is received (bytes).
    """

    runs: bool
    problem: str
    version: str
    started: float | None
    ticked: float | None
    port: int
    accepting: int
    acceptors: int
    free: float
    size: float
    low: float


@dataclass(frozen=True)
class Status:
    """The state of a node without patient data; times are in seconds since 1970, the newest rows come first.

    Studies, jobs and deliveries that have not ended well are all there, however old; of the others the newest.
    """

    instances: Instances
    unreadable: tuple[Unreadable, ...]
    studies: tuple[Study, ...]
    jobs: tuple[Job, ...]
    deliveries: tuple[Delivery, ...]
    commitments: tuple[Commitment, ...]
    counts: Counts = Counts()
    notices: tuple[Notices, ...] = ()


#: States of a study, and of a job, that are shown however old: a person may be needed, or it is under way.
OPEN_STUDY = ("RECEIVING", "WAITING", "OVERDUE", "REFUSED")
OPEN_JOB = ("READY", "RUNNING", "FAILED", "REFUSED")


def running(config: Config, now: float) -> Running:
    """Return whether a node runs with this configuration.

    Parameters
    ----------
    now : float
        Current time (s since 1970).
    """
    alive, pulse = runs(config.layout), read_pulse(config.layout)
    problem = "" if alive else "no node runs"
    if alive and pulse is not None and pulse.stands_still(now):
        problem = f"its ticks have stood still for {now - pulse.at:.0f} s: start it again"
    elif alive and pulse is not None and pulse.accepting < 1:
        problem = f"no process accepts connections on port {pulse.port}"
    try:
        disk = shutil.disk_usage(config.storage)
        free, size = float(disk.free), float(disk.total)
    except OSError:
        free = size = 0.0
    low = config.receive.min_free_mb * 1e6
    if not problem and free < low:
        problem = "the disk is full: associations are rejected"
    last = pulse or Pulse("", 0.0, 0, 0, config.receive.acceptors, 0.0)
    return Running(
        *(alive, problem, last.version),
        *(last.started or None, last.at or None),
        *(last.port, last.accepting, last.acceptors),
        *(free, size, low),
    )


def status(database: Database, limit: int = 50) -> Status:
    """Return the state of the node.

    Parameters
    ----------
    limit : int
        Most rows of each list that need nobody, and of each list of files.

    Raises
    ------
    Unavailable
        Where the database cannot be reached.
    """
    with database.reading() as connection:
        return Status(
            _counts(connection),
            _rows(Unreadable, connection, _unreadable().limit(limit)),
            _rows(Study, connection, studies_of(_shown(study.c.study_uid, study, OPEN_STUDY, limit))),
            _rows(Job, connection, jobs_of(_shown(job.c.id, job, OPEN_JOB, limit))),
            _rows(Delivery, connection, _deliveries(limit)),
            _rows(Commitment, connection, _commitments().limit(limit)),
            Counts(_by_state(connection, study), _by_state(connection, job)),
            _rows(Notices, connection, _notices()),
        )


def _by_state(connection: sa.Connection, table: sa.Table) -> dict[str, int]:
    query = sa.select(table.c.state, sa.func.count()).group_by(table.c.state).order_by(table.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}


def _shown(key: sa.Column[Any], table: sa.Table, states: tuple[str, ...], limit: int) -> Any:
    """Return the condition on a row that it is in one of some states, or among the newest."""
    when = study.c.received_at if table is study else job.c.id
    newest = sa.select(key).order_by(when.desc()).limit(limit).subquery()
    return key.in_(sa.select(key).where(table.c.state.in_(states)).union(sa.select(newest)))


def _notices() -> sa.Select[Any]:
    groups = notification.c.channel, notification.c.state
    values = (
        sa.func.count().label("events"),
        sa.func.max(notification.c.attempts).label("attempts"),
        sa.func.min(sa.case((notification.c.state == "QUEUED", notification.c.due_at))).label("due_at"),
        sa.func.max(notification.c.reason).label("reason"),
    )
    open_ones = notification.c.state.in_(("QUEUED", "DEAD"))
    return sa.select(*groups, *values).where(open_ones).group_by(*groups).order_by(*groups)


def _rows(kind: type[Row], connection: sa.Connection, query: sa.Select[Any]) -> tuple[Row, ...]:
    return tuple(kind(**row._mapping) for row in connection.execute(query))


def _counts(connection: sa.Connection) -> Instances:
    count = sa.select(sa.func.count())
    queries = (
        count.select_from(instance),
        count.select_from(instance).where(UNINDEXED),
        count.select_from(instance).where(UNREADABLE),
        count.select_from(quarantine),
    )
    return Instances(*(int(connection.scalar(query) or 0) for query in queries))


def _unreadable() -> sa.Select[Any]:
    columns = instance.c.sop_instance_uid, instance.c.received_at, instance.c.calling_ae, instance.c.problem
    return sa.select(*columns).where(UNREADABLE).order_by(instance.c.received_at.desc())


def studies_of(where: Any) -> sa.Select[Any]:
    """Return the query of `Study` for the rows of `study` that fulfil a condition."""
    images = (
        sa.select(sa.func.count())
        .where(instance.c.study_uid == study.c.study_uid)
        .scalar_subquery()
        .label("instances")
    )
    steps = performed_study.join(
        performed_step, performed_step.c.sop_instance_uid == performed_study.c.step_uid
    ).join(performed_image, performed_image.c.step_uid == performed_study.c.step_uid)
    listed = (
        sa.select(sa.func.count(performed_image.c.sop_instance_uid.distinct()))
        .select_from(steps)
        .where(performed_study.c.study_uid == study.c.study_uid, performed_step.c.state == "COMPLETED")
    )
    here = sa.exists().where(instance.c.sop_instance_uid == performed_image.c.sop_instance_uid)
    counts = listed.scalar_subquery().label("listed"), listed.where(~here).scalar_subquery().label("missing")
    names = "study_uid", "state", "reason", "since", "due_at", "search"
    query = sa.select(*(study.c[name] for name in names), images, *counts).where(where)
    return query.order_by(study.c.received_at.desc())


def jobs_of(where: Any) -> sa.Select[Any]:
    """Return the query of `Job` for the rows of `job` that fulfil a condition."""
    names = (
        "id",
        "study_uid",
        "revision",
        "state",
        "since",
        "stage",
        "fraction",
        "attempt",
        "reason",
        "due_at",
    )
    return sa.select(*(job.c[name] for name in names)).where(where).order_by(job.c.id.desc())


def _deliveries(limit: int) -> sa.Select[Any]:
    groups = result.c.job_id, delivery.c.destination, delivery.c.state
    waiting = sa.case((delivery.c.state == "QUEUED", delivery.c.due_at))
    values = (
        sa.func.count().label("objects"),
        sa.func.max(delivery.c.attempts).label("attempts"),
        sa.func.min(waiting).label("due_at"),
        sa.func.max(delivery.c.reason).label("reason"),
    )
    # count all deliveries of the newest jobs, but only open ones of older jobs: all deliveries ever are too many
    newest = sa.select(job.c.id).order_by(job.c.id.desc()).limit(limit).scalar_subquery()
    of_newest = sa.select(delivery.c.id).join(result).where(result.c.job_id.in_(newest))
    still_open = sa.select(delivery.c.id).where(delivery.c.state.in_(("QUEUED", "DEAD")))
    shown = delivery.c.id.in_(of_newest.union(still_open))
    query = sa.select(*groups, *values).select_from(delivery.join(result)).where(shown).group_by(*groups)
    return query.order_by(result.c.job_id.desc(), delivery.c.destination)


def _commitments() -> sa.Select[Any]:
    names = "transaction_uid", "calling_ae", "state", "objects", "failed", "attempts", "due_at", "reason"
    open_or_failed = sa.or_(commitment.c.state != "REPORTED", commitment.c.failed > 0)
    query = sa.select(*(commitment.c[name] for name in names)).where(open_or_failed)
    return query.order_by(commitment.c.id.desc())
