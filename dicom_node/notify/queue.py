"""Events -> messages to each channel, each with a queue of its own, until every message was taken or given up.

Which events go out together, under which identity, is in the database before the first attempt. So a message that was
sent just before the node died goes again as the same message, and a receiver that knows its identity drops it.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from ..delivery.outcome import Outcome, Verdict, pause
from ..settings.notify import Channel
from ..store import tally
from ..store.database import Database
from ..store.due import is_due
from ..store.tables import channel, event, notification
from ..troubles import Troubles
from .kinds import WAYS
from .texts import Message, Told

LOG = logging.getLogger(__name__)

NotificationState = Literal["QUEUED", "SENT", "DEAD"]
#: Letter, source and target of each move of a notification, which is created QUEUED (a).
MOVES: Mapping[str, tuple[str, NotificationState, NotificationState]] = {
    "sent": ("b", "QUEUED", "SENT"),
    "later": ("c", "QUEUED", "QUEUED"),
    "never": ("d", "QUEUED", "DEAD"),
}
OUTCOMES: Mapping[Verdict, str] = {"sent": "sent", "later": "retried", "never": "dead"}
#: Most events taken from the journal at one time, most events of a digest, most messages of a tick.
BATCH, DIGEST, MESSAGES = 500, 100, 20
#: Time after which rows of messages that were sent are removed (s).
KEPT_SECONDS = 30 * 86400.0


def collect(database: Database, settings: Channel, now: float) -> int:
    """Queue the events that a channel has not seen yet, and return how many there are.

    A channel that is new in the configuration begins with what happens from then on.
    """
    seen = sa.select(channel.c.last_event).where(channel.c.name == settings.name)
    newest = sa.select(sa.func.max(event.c.id))
    with database.reading() as connection:
        last, newest_id = connection.scalar(seen), connection.scalar(newest) or 0
    if last is not None and last >= newest_id:
        return 0
    with database.writing() as connection:
        if last is None:
            first = database.insert(channel).values(name=settings.name, last_event=newest_id)
            connection.execute(first.on_conflict_do_nothing())
            return 0
        last = connection.scalar(seen) or 0
        new = sa.select(event).where(event.c.id > last).order_by(event.c.id).limit(BATCH)
        rows = connection.execute(new).all()
        queued = [_row(settings, row, now) for row in rows if row.kind in settings.events]
        if queued:
            connection.execute(sa.insert(notification), queued)
        upto = rows[-1].id if rows else last
        connection.execute(sa.update(channel).where(channel.c.name == settings.name).values(last_event=upto))
    return len(queued)


def notify(
    database: Database,
    settings: Channel,
    node: str,
    troubles: Troubles | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Queue what happened, and send the messages of one channel that are due.

    Parameters
    ----------
    node : str
        AE title of this node.
    troubles : Troubles, optional
        Told of every attempt that failed.
    """
    troubles = troubles or Troubles(settings.name, LOG)
    while collect(database, settings, clock()) == BATCH:
        pass
    _compose(database, settings, clock())
    for identity, rows in _due(database, settings, clock()):
        told = [Told(r.kind, r.at, r.study_uid, r.job_id, r.about) for r in rows]
        message = Message(identity, node, max(r.created for r in rows), told)
        try:
            outcome = WAYS[type(settings)].send(message, settings)
        except Exception as error:  # the boundary of one channel: each message gets a reason and an end
            LOG.exception("channel %s", settings.name)
            outcome = Outcome("later", f"internal error: {type(error).__name__}")
        verdict = _record(database, settings, identity, rows, outcome, clock())
        if verdict == "later":
            troubles.again(f"not told: {outcome.reason}")
            return  # the other messages would meet the same
        if verdict == "never":
            LOG.error("channel %s: a message was given up: %s", settings.name, outcome.reason)
        else:
            troubles.over()


def _row(settings: Channel, happened: Any, now: float) -> dict[str, Any]:
    """Return a notification; it is due once the time of its digest is over."""
    names = "kind", "study_uid", "job_id", "about", "at"
    times = {"created": now, "since": now, "due_at": now + 60 * settings.digest_minutes}
    return {"channel": settings.name, "state": "QUEUED", **{n: getattr(happened, n) for n in names}, **times}


def _mine(settings: Channel, *where: Any) -> tuple[Any, ...]:
    return (notification.c.channel == settings.name, notification.c.state == "QUEUED", *where)


def _compose(database: Database, settings: Channel, now: float) -> None:
    """Give the notifications that are due and in no message yet the identity of one: all together in a digest."""
    alone = notification.c.message.is_(None)
    furthest = max(60 * settings.digest_minutes, settings.max_retry_seconds)
    waiting = _mine(settings, alone)
    when = is_due(notification.c.due_at, now, furthest)
    first = sa.select(notification.c.id).where(*waiting, when).limit(1)
    with database.reading() as connection:
        if connection.scalar(first) is None:
            return
    ids = sa.select(notification.c.id).where(*waiting).order_by(notification.c.id).limit(DIGEST)
    with database.writing() as connection:
        found = list(connection.scalars(ids))
        groups = [found] if settings.digest_minutes else [[one] for one in found]
        for group in groups:
            values = {"message": uuid.uuid4().hex, "due_at": now}
            connection.execute(sa.update(notification).where(notification.c.id.in_(group)).values(**values))


def _due(database: Database, settings: Channel, now: float) -> list[tuple[str, list[Any]]]:
    """Return the messages that are due, the oldest first, each with its rows."""
    when = is_due(notification.c.due_at, now, settings.max_retry_seconds)
    due = _mine(settings, notification.c.message.is_not(None), when)
    query = sa.select(notification).where(*due).order_by(notification.c.id).limit(MESSAGES * DIGEST)
    messages: dict[str, list[Any]] = {}
    with database.reading() as connection:
        for row in connection.execute(query):
            messages.setdefault(row.message, []).append(row)
    return list(messages.items())[:MESSAGES]


def _record(
    database: Database, settings: Channel, identity: str, rows: Sequence[Any], outcome: Outcome, now: float
) -> Verdict:
    """Record an outcome, and return the verdict as it counts: one too late for another attempt is the last."""
    verdict, reason = outcome.verdict, outcome.reason
    if verdict == "later" and now - min(r.created for r in rows) > settings.max_age_hours * 3600:
        verdict, reason = "never", f"given up after {settings.max_age_hours:g} h: {reason}"
    attempts = rows[0].attempts
    _, source, target = MOVES[verdict]
    values: dict[str, Any] = {"state": target, "reason": reason, "attempts": attempts + 1}
    if verdict == "later":
        values["due_at"] = now + pause(settings, attempts)
    else:
        values["since"] = values["due_at"] = now
    where = notification.c.message == identity, notification.c.state == source
    gone = (
        notification.c.channel == settings.name,
        notification.c.state == "SENT",
        notification.c.due_at < now - KEPT_SECONDS,
    )
    with database.writing() as connection:
        if connection.execute(sa.update(notification).where(*where).values(**values)).rowcount:
            tally.add(connection, "notifications", of=settings.name, outcome=OUTCOMES[verdict])
        connection.execute(sa.delete(notification).where(*gone))
    return verdict
