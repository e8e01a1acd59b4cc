"""The queues of results: each destination, and what was given up or waits, with the reason."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import get_args

import sqlalchemy as sa

from ..delivery.queue import DeliveryState
from ..store.tables import delivery, job, result
from .site import Ask, Site

#: Most rows of given up or waiting objects that are shown for one destination.
ROWS = 50


@dataclass(frozen=True)
class Waiting:
    """The objects of one job that wait for a destination, or were given up."""

    job_id: int
    study_uid: str
    state: str
    objects: int
    attempts: int
    due_at: float
    reason: str


@dataclass(frozen=True)
class Queue:
    """A destination and its queue; how many objects it took in the last hour, and when the last one."""

    name: str
    kind: str
    place: str
    objects: tuple[str, ...]
    counts: dict[str, int]
    last_sent: float | None
    last_hour: int
    waiting: tuple[Waiting, ...]


@dataclass(frozen=True)
class Deliveries:
    """Every destination."""

    queues: tuple[Queue, ...]


def deliveries(site: Site, ask: Ask) -> Deliveries:
    """Return every destination of the configuration with its queue."""
    states = get_args(DeliveryState)
    with site.database.reading() as connection:
        groups = delivery.c.destination, delivery.c.state
        query = sa.select(*groups, sa.func.count()).group_by(*groups)
        counts = {(name, state): n for name, state, n in connection.execute(query)}
        return Deliveries(
            tuple(
                Queue(
                    *(d.name, d.kind, d.place, d.objects),
                    {state: counts.get((d.name, state), 0) for state in states},
                    _last_sent(connection, d.name),
                    _taken(connection, d.name, time.time() - 3600),
                    tuple(_waiting(connection, d.name)),
                )
                for d in site.config.destinations
            )
        )


def _last_sent(connection: sa.Connection, name: str) -> float | None:
    """Return when the last object was taken; the due time of one that was sent is the time at which it was."""
    last = sa.select(sa.func.max(delivery.c.due_at)).where(delivery.c.destination == name)
    found = [connection.scalar(last.where(delivery.c.state == state)) for state in ("SENT", "CONFIRMED")]
    return max((at for at in found if at is not None), default=None)


def _taken(connection: sa.Connection, name: str, since: float) -> int:
    """Return how many objects a destination took since a time."""
    taken = sa.select(sa.func.count()).where(delivery.c.destination == name, delivery.c.due_at >= since)
    return sum(
        connection.scalar(taken.where(delivery.c.state == state)) or 0 for state in ("SENT", "CONFIRMED")
    )


def _waiting(connection: sa.Connection, name: str) -> list[Waiting]:
    ids = sa.select(delivery.c.id).where(delivery.c.destination == name)
    found = [ids.where(delivery.c.state == state).limit(20 * ROWS) for state in ("DEAD", "QUEUED")]
    groups = result.c.job_id, job.c.study_uid, delivery.c.state
    values = (
        sa.func.count().label("objects"),
        sa.func.max(delivery.c.attempts).label("attempts"),
        sa.func.min(delivery.c.due_at).label("due_at"),
        sa.func.max(delivery.c.reason).label("reason"),
    )
    tables = delivery.join(result).join(job, job.c.id == result.c.job_id)
    query = sa.select(*groups, *values).select_from(tables)
    rows: list[Waiting] = []
    for some in found:
        mine = query.where(delivery.c.id.in_(some)).group_by(*groups).order_by(result.c.job_id.desc())
        rows += [Waiting(**row._mapping) for row in connection.execute(mine.limit(ROWS))]
    return rows
