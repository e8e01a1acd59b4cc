"""Results -> their destinations, each with a queue of its own, until every object has an answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from ..errors import Unavailable
from ..settings.destinations import Destination
from ..store import tally
from ..store.database import Database
from ..store.due import is_due
from ..store.members import owned_by_nobody_else
from ..store.tables import delivery, result
from ..troubles import Troubles
from .kinds import SENDERS
from .outcome import Outcome, Parcel, Verdict, pause
from .rounds import OUTCOMES, Round, give_up

LOG = logging.getLogger(__name__)

DeliveryState = Literal["QUEUED", "SENT", "CONFIRMED", "DEAD"]
BATCH = 100

#: Letter, source and target of each move of a delivery, which is created QUEUED (a). Where a destination offers storage
#: commitment, `confirm` moves it on from SENT: to CONFIRMED (f), QUEUED again (g) or DEAD (h).
MOVES: Mapping[str, tuple[str, DeliveryState, DeliveryState]] = {
    "sent": ("b", "QUEUED", "SENT"),
    "later": ("c", "QUEUED", "QUEUED"),
    "never": ("d", "QUEUED", "DEAD"),
    "retry": ("e", "DEAD", "QUEUED"),
}


def queue(
    database: Database,
    connection: sa.Connection,
    uids: Iterable[str],
    destinations: Iterable[str],
    now: float,
) -> None:
    """Queue stored results for every destination; results already queued stay as they are."""
    destinations = list(destinations)
    for uid in uids:
        for name in destinations:
            values = {"sop_instance_uid": uid, "destination": name, "state": "QUEUED", "reason": ""}
            times = {"since": now, "created": now, "due_at": now}
            connection.execute(database.insert(delivery).values(**values, **times).on_conflict_do_nothing())


def deliver(
    database: Database,
    storage: Path,
    destination: Destination,
    calling_ae_title: str,
    clock: Callable[[], float] = time.time,
    on_sent: Callable[[sa.Connection, Parcel], None] = lambda connection, parcel: None,
    on_damaged: Callable[[Parcel], None] = lambda parcel: None,
    troubles: Troubles | None = None,
    owner: str = "",
) -> None:
    """Send the objects that are due at one destination, recording each outcome as soon as it is known.

    Without a response it is unknown whether an object arrived, so it is sent again with the same UIDs. An object that
    cannot be sent delays no other, since each has its own reason, attempts and end.

    Parameters
    ----------
    on_sent : callable
        Called in the transaction that records an object as SENT.
    on_damaged : callable
        Called at each attempt for an object whose file is damaged: earlier attempts may have failed for another reason.
    troubles : Troubles, optional
        Told of every attempt that failed; it logs the first of a kind, and the end.
    owner : str
        Name of this node, under which it takes objects, so that no other node sends them meanwhile.
    """
    whole, waiting = [], {}
    this_round = Round(destination, troubles or Troubles(destination.name, LOG))
    for parcel in due(database, storage, destination, clock(), owner):
        if problem := _problem(parcel):
            this_round.add(parcel, _record(database, destination, parcel, Outcome("later", problem), clock()))
            on_damaged(parcel)
        else:
            whole.append(parcel)
            waiting[parcel.id] = parcel
    try:
        for parcel, outcome in (
            SENDERS[type(destination)].send(whole, destination, calling_ae_title) if whole else ()
        ):
            this_round.add(parcel, _record(database, destination, parcel, outcome, clock(), on_sent))
            waiting.pop(parcel.id, None)
    except Unavailable:
        raise
    except (
        Exception
    ) as error:  # the boundary of one destination: each unanswered object gets a reason and an end
        LOG.exception("destination %s", destination.name)
        for parcel in waiting.values():
            reason = f"internal error: {type(error).__name__}"
            this_round.add(parcel, _record(database, destination, parcel, Outcome("later", reason), clock()))
    this_round.tell(database, clock())


def _problem(parcel: Parcel) -> str:
    try:
        return parcel.problem
    except OSError as error:  # the storage may be unmounted
        return f"its file cannot be read: {error.strerror}"


def due(
    database: Database, storage: Path, destination: Destination, now: float, owner: str = ""
) -> list[Parcel]:
    """Take the objects that are due at a destination and that no other node is sending, the oldest first."""
    when = is_due(delivery.c.due_at, now, destination.max_retry_seconds)
    free = owned_by_nobody_else(delivery.c.owner, owner)
    columns = delivery.c.id, delivery.c.created, delivery.c.attempts, result.c.job_id, result.c.sha256
    query = (
        sa.select(*columns, result.c.sop_instance_uid, result.c.sop_class_uid, result.c.path)
        .join(result)
        .where(delivery.c.destination == destination.name, delivery.c.state == "QUEUED", when, free)
        .order_by(delivery.c.id)
        .limit(BATCH)
    )
    with database.reading() as connection:
        if connection.execute(query.limit(1)).first() is None:
            return []
    with database.writing() as connection:
        rows = connection.execute(query.with_for_update(of=delivery, skip_locked=True)).all()
        taken = delivery.c.id.in_([row.id for row in rows])
        connection.execute(sa.update(delivery).where(taken).values(owner=owner))
    return [
        Parcel(
            *(r.id, r.sop_instance_uid, r.sop_class_uid, storage / r.path, r.created, r.attempts),
            job_id=r.job_id,
            sha256=r.sha256 or "",
        )
        for r in rows
    ]


def retry(database: Database, job_id: int, now: float, destination: str = "") -> int:
    """Queue the given-up objects of a job again, for one destination or for all, and return how many there are."""
    _, source, target = MOVES["retry"]
    mine = sa.select(result.c.sop_instance_uid).where(result.c.job_id == job_id)
    where = [delivery.c.sop_instance_uid.in_(mine), delivery.c.state == source]
    if destination:
        where.append(delivery.c.destination == destination)
    fresh = {
        "state": target,
        "since": now,
        "created": now,
        "due_at": now,
        "attempts": 0,
        "reason": "",
        "transaction_uid": None,
    }
    with database.writing() as connection:
        return connection.execute(sa.update(delivery).where(*where).values(**fresh)).rowcount


def _record(
    database: Database,
    destination: Destination,
    parcel: Parcel,
    outcome: Outcome,
    now: float,
    on_sent: Callable[[sa.Connection, Parcel], None] = lambda connection, parcel: None,
) -> Outcome:
    """Record an outcome, and return it as it counts: one that comes too late for another attempt is the last."""
    name: Verdict = outcome.verdict
    reason = outcome.reason
    if name == "later" and now - parcel.created > destination.max_age_hours * 3600:
        name, reason = "never", f"given up after {destination.max_age_hours:g} h: {reason}"
    _, source, target = MOVES[name]
    values: dict[str, Any] = {
        "state": target,
        "status": outcome.status,
        "reason": reason,
        "attempts": parcel.attempts + 1,
        "owner": "",
    }
    if name == "later":
        values["due_at"] = now + pause(destination, parcel.attempts)
    else:
        values["since"] = values["due_at"] = now
    LOG.debug("object %s to %s: %s", parcel.sop_instance_uid, destination.name, reason)
    where = delivery.c.id == parcel.id, delivery.c.state == source
    with database.writing() as connection:
        moved = connection.execute(sa.update(delivery).where(*where).values(**values)).rowcount
        if moved:
            tally.add(connection, "deliveries", of=destination.name, outcome=OUTCOMES[name])
        if moved and name == "sent":
            on_sent(connection, parcel)
        if moved and name == "never":
            give_up(connection, destination.name, parcel.job_id, parcel.created, reason, now)
    return Outcome(name, reason, outcome.status)
