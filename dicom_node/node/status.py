"""The database -> what is waiting, running, sent and failed, and why: plain values."""

from __future__ import annotations

from typing import Any

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


def status(database: Database, limit: int = 50) -> dict[str, Any]:
    """What the node knows, without any patient data; times in seconds since 1970.

    Parameters
    ----------
    limit : int
        Rows of each list, the newest first.

    Returns
    -------
    dict
        ``instances`` (counts), ``unreadable``, ``studies`` (with how many images its scanner ``listed`` by MPPS,
        and how many of those are ``missing``), ``jobs``, ``deliveries`` (a row for each job,
        destination and state), ``commitments`` (storage commitment asked of the node and not reported yet, or
        with failures).
    """
    with database.reading() as connection:
        return {
            "instances": _counts(connection),
            "unreadable": _rows(connection, _unreadable().limit(limit)),
            "studies": _rows(connection, _studies().limit(limit)),
            "jobs": _rows(connection, _jobs().limit(limit)),
            "deliveries": _rows(connection, _deliveries().limit(4 * limit)),
            "commitments": _rows(connection, _commitments().limit(limit)),
        }


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(query)]


def _counts(connection: sa.Connection) -> dict[str, int]:
    count = sa.select(sa.func.count())
    queries = {
        "stored": count.select_from(instance),
        "to be read": count.select_from(instance).where(UNINDEXED),
        "unreadable": count.select_from(instance).where(instance.c.problem.is_not(None)),
        "quarantined": count.select_from(quarantine),
    }
    return {name: int(connection.scalar(query) or 0) for name, query in queries.items()}


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


def _deliveries() -> sa.Select[Any]:
    groups = result.c.job_id, delivery.c.destination, delivery.c.state
    waiting = sa.case((delivery.c.state == "QUEUED", delivery.c.due_at))
    values = (
        sa.func.count().label("objects"),
        sa.func.max(delivery.c.attempts).label("attempts"),
        sa.func.min(waiting).label("due_at"),
        sa.func.max(delivery.c.reason).label("reason"),
    )
    query = sa.select(*groups, *values).select_from(delivery.join(result)).group_by(*groups)
    return query.order_by(result.c.job_id.desc(), delivery.c.destination)


def _commitments() -> sa.Select[Any]:
    names = "transaction_uid", "calling_ae", "state", "objects", "failed", "attempts", "due_at", "reason"
    open_or_failed = sa.or_(commitment.c.state != "REPORTED", commitment.c.failed > 0)
    query = sa.select(*(commitment.c[name] for name in names)).where(open_or_failed)
    return query.order_by(commitment.c.id.desc())
