"""The database -> typed values that say what is waiting, running, sent and failed, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from ..store.database import Database
from ..store.tables import (
    UNINDEXED,
    commitment,
    delivery,
    instance,
    job,
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
class Status:
    """The state of a node without patient data; times are in seconds since 1970, the newest rows come first."""

    instances: Instances
    unreadable: tuple[Unreadable, ...]
    studies: tuple[Study, ...]
    jobs: tuple[Job, ...]
    deliveries: tuple[Delivery, ...]
    commitments: tuple[Commitment, ...]


def status(database: Database, limit: int = 50) -> Status:
    """Return the state of the node.

    Parameters
    ----------
    limit : int
        Most rows of each list.

    Raises
    ------
    Unavailable
        Where the database cannot be reached.
    """
    with database.reading() as connection:
        return Status(
            _counts(connection),
            _rows(Unreadable, connection, _unreadable().limit(limit)),
            _rows(Study, connection, _studies().limit(limit)),
            _rows(Job, connection, _jobs().limit(limit)),
            _rows(Delivery, connection, _deliveries(limit)),
            _rows(Commitment, connection, _commitments().limit(limit)),
        )


def _rows(kind: type[Row], connection: sa.Connection, query: sa.Select[Any]) -> tuple[Row, ...]:
    return tuple(kind(**row._mapping) for row in connection.execute(query))


def _counts(connection: sa.Connection) -> Instances:
    count = sa.select(sa.func.count())
    queries = (
        count.select_from(instance),
        count.select_from(instance).where(UNINDEXED),
        count.select_from(instance).where(instance.c.problem.is_not(None)),
        count.select_from(quarantine),
    )
    return Instances(*(int(connection.scalar(query) or 0) for query in queries))


def _unreadable() -> sa.Select[Any]:
    columns = instance.c.sop_instance_uid, instance.c.received_at, instance.c.calling_ae, instance.c.problem
    return sa.select(*columns).where(instance.c.problem.is_not(None)).order_by(instance.c.received_at.desc())


def _studies() -> sa.Select[Any]:
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
    return sa.select(*(study.c[name] for name in names), images, *counts).order_by(study.c.received_at.desc())


def _jobs() -> sa.Select[Any]:
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
    return sa.select(*(job.c[name] for name in names)).order_by(job.c.id.desc())


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
    return query.order_by(result.c.job_id.desc(), delivery.c.destination).limit(4 * limit)


def _commitments() -> sa.Select[Any]:
    names = "transaction_uid", "calling_ae", "state", "objects", "failed", "attempts", "due_at", "reason"
    open_or_failed = sa.or_(commitment.c.state != "REPORTED", commitment.c.failed > 0)
    query = sa.select(*(commitment.c[name] for name in names)).where(open_or_failed)
    return query.order_by(commitment.c.id.desc())
