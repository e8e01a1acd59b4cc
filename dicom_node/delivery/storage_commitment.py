"""Objects that a destination accepted -> CONFIRMED: storage commitment SCU, Push Model (PS3.4 Annex J)."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import build_context, evt

from ..dicom.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from ..errors import Unavailable
from ..network.association import associate
from ..network.dimse_n import COMMON, SYNTAXES, Status, answered, hostile, read_attributes, valid_uid
from ..settings.destinations import CStoreDestination, Destination
from ..store import tally
from ..store.database import Database
from ..store.due import is_due
from ..store.tables import delivery, result
from .outcome import pause
from .rounds import give_up

LOG = logging.getLogger(__name__)

BATCH = 500
#: Time to wait for a report on the association of its request (s); a later report comes on an association of the PACS.
LINGER_SECONDS = 1.0

Answer = Literal["kept", "again", "ask", "never"]

#: Reaction to each Failure Reason (0008,1197; PS3.3 C.14.1.1), and its meaning; after any other, send again.
FAILURES: Mapping[int, tuple[Answer, str]] = {
    0x0110: ("ask", "processing failure"),
    0x0112: ("again", "no such object instance"),
    0x0119: ("never", "class/instance conflict"),
    0x0122: ("never", "referenced SOP class not supported"),
    0x0131: ("ask", "duplicate transaction UID"),
    0x0213: ("ask", "resource limitation"),
}

SUCCESS = 0x0000
#: Every status that answers a report (PS3.7 10.1.1.1.8).
STATUSES: Mapping[str, Status] = {
    **COMMON,
    "recorded": Status(0x0000),
    "unknown": Status(0x0115, "There is no transaction of this UID"),
}


def ask(
    database: Database,
    destination: CStoreDestination,
    calling_ae_title: str,
    clock: Callable[[], float] = time.time,
) -> None:
    """Request storage commitment for the objects that are SENT and due; `on_report` handles the report.

    The transaction is in the database before the request is sent, so no report can come too early. Without a report
    in time, commitment is requested again under a new Transaction UID.
    """
    rows = _due(database, destination, clock())
    if not rows:
        return
    transaction_uid = f"2.25.{uuid.uuid4().int}"
    mine = delivery.c.id.in_([row.id for row in rows])
    fresh = {"transaction_uid": transaction_uid, "due_at": clock() + destination.confirm_seconds}
    with database.writing() as connection:
        connection.execute(sa.update(delivery).where(mine, delivery.c.state == "SENT").values(**fresh))
    try:
        problem = _request(database, destination, calling_ae_title, transaction_uid, rows)
    except Unavailable as error:
        problem = str(error)
    if not problem:
        LOG.info("%s is asked to commit to %d objects", destination.name, len(rows))
        return
    LOG.warning("%s is not asked to commit to %d objects: %s", destination.name, len(rows), problem)
    still = mine, delivery.c.state == "SENT", delivery.c.transaction_uid == transaction_uid
    attempts = max(row.attempts for row in rows)
    later = {"due_at": clock() + pause(destination, attempts), "attempts": delivery.c.attempts + 1}
    with database.writing() as connection:
        connection.execute(
            sa.update(delivery).where(*still).values(reason=f"stored, not confirmed: {problem}", **later)
        )


def on_report(database: Database, destinations: Sequence[Destination], event: Any) -> tuple[Dataset, None]:
    """Handle EVT_N_EVENT_REPORT, a report on a request of this node."""

    def serve() -> str:
        report = read_attributes(event.request.EventInformation, event.context.transfer_syntax)
        return "recorded" if record(database, destinations, report, time.time()) else "unknown"

    return answered("a report of storage commitment", serve, STATUSES), None


def record(database: Database, destinations: Sequence[Destination], report: Dataset, now: float) -> bool:
    """Record a Storage Commitment Result (PS3.4 J.3.3.1); return False where its transaction is unknown.

    Objects that the report does not name stay SENT, and their commitment is requested again.
    """
    answers: dict[str, tuple[Answer, str]] = {}
    with hostile():
        transaction_uid = valid_uid(report.get("TransactionUID"))
        for item in report.get("ReferencedSOPSequence") or []:
            answers[str(item.ReferencedSOPInstanceUID)] = "kept", "storage committed"
        for item in report.get("FailedSOPSequence") or []:
            reason = int(item.FailureReason)
            answer, meaning = FAILURES.get(reason, ("again", "not committed"))
            answers[str(item.ReferencedSOPInstanceUID)] = answer, f"not committed: {meaning} (0x{reason:04X})"
    by_name = {d.name: d for d in destinations if isinstance(d, CStoreDestination)}
    asked = sa.select(delivery).where(delivery.c.transaction_uid == transaction_uid)
    said: Counter[tuple[str, str]] = Counter()
    with database.writing() as connection:
        rows = connection.execute(asked).all()
        for row in rows:
            if row.state == "SENT" and row.sop_instance_uid in answers and row.destination in by_name:
                values = _move(row, *answers[row.sop_instance_uid], by_name[row.destination], now)
                connection.execute(sa.update(delivery).where(delivery.c.id == row.id).values(**values))
                said[row.destination, values["reason"]] += 1
                _count(connection, row, values, now)
    for (name, why), count in said.items():
        LOG.info("%d objects at %s: %s", count, name, why)
    return bool(rows)


def _count(connection: sa.Connection, row: Any, values: Mapping[str, Any], now: float) -> None:
    """Count what a report said of a delivery; one that was given up is an event."""
    state = values.get("state", "SENT")
    if state == "CONFIRMED":
        tally.add(connection, "deliveries", of=row.destination, outcome="confirmed")
    elif state == "DEAD":
        tally.add(connection, "deliveries", of=row.destination, outcome="dead")
        _given_up(connection, row.sop_instance_uid, row.destination, row.created, values["reason"], now)


def _given_up(
    connection: sa.Connection, uid: str, destination: str, created: float, reason: str, now: float
) -> None:
    job_id = connection.scalar(sa.select(result.c.job_id).where(result.c.sop_instance_uid == uid))
    give_up(connection, destination, int(job_id or 0), created, reason, now)


def _move(
    row: Any, answer: Answer, reason: str, destination: CStoreDestination, now: float
) -> dict[str, Any]:
    """Return the new values of a delivery after a report on it."""
    if answer == "kept":
        return {"state": "CONFIRMED", "since": now, "reason": reason}
    if answer != "never" and now - row.created > destination.max_age_hours * 3600:
        answer, reason = "never", f"given up after {destination.max_age_hours:g} h: {reason}"
    if answer == "never":
        return {"state": "DEAD", "since": now, "reason": reason}
    later = {"due_at": now + pause(destination, row.attempts), "reason": reason, "transaction_uid": None}
    if answer == "ask":
        return {**later, "attempts": row.attempts + 1}
    return {**later, "state": "QUEUED", "since": now}


def _due(database: Database, destination: CStoreDestination, now: float) -> Sequence[Any]:
    """Return the deliveries to request commitment for now, giving up those unconfirmed for too long."""
    mine = delivery.c.destination == destination.name, delivery.c.state == "SENT"
    longest = max(destination.confirm_seconds, destination.max_retry_seconds)
    when = is_due(delivery.c.due_at, now, longest)
    old = delivery.c.created < now - destination.max_age_hours * 3600
    reason = f"given up after {destination.max_age_hours:g} h: stored, but never confirmed"
    columns = delivery.c.id, delivery.c.attempts, result.c.sop_class_uid, result.c.sop_instance_uid
    query = sa.select(*columns).join(result).where(*mine, when).order_by(delivery.c.id).limit(BATCH)
    with database.reading() as connection:
        if not connection.execute(query).first():
            return []
    with database.writing() as connection:
        over = sa.select(delivery.c.sop_instance_uid, delivery.c.created).where(*mine, when, old)
        for uid, created in connection.execute(over).all():
            _given_up(connection, uid, destination.name, created, reason, now)
        given_up = sa.update(delivery).where(*mine, when, old)
        dead = connection.execute(given_up.values(state="DEAD", since=now, reason=reason)).rowcount
        tally.add(connection, "deliveries", dead, of=destination.name, outcome="dead")
        return connection.execute(query).all()


def _request(
    database: Database,
    destination: CStoreDestination,
    calling_ae_title: str,
    transaction_uid: str,
    rows: Sequence[Any],
) -> str:
    """Send the N-ACTION (PS3.4 J.3.2); return "" where it was accepted, else why not. Raises as `associate`."""
    handler = (evt.EVT_N_EVENT_REPORT, lambda event: on_report(database, [destination], event))
    contexts = [build_context(STORAGE_COMMITMENT, [str(s) for s in SYNTAXES])]
    assoc = associate(destination, calling_ae_title, contexts, serves=True, evt_handlers=[handler])
    try:
        if not assoc.accepted_contexts:
            return f"{destination.name} does not offer storage commitment"
        response, _ = assoc.send_n_action(
            _action(transaction_uid, rows), 1, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
        )
        status = response.get("Status")
        if status is None:
            return "no response to the N-ACTION"
        if status == SUCCESS:
            _linger(database, assoc, transaction_uid)
        return "" if status == SUCCESS else f"refused (0x{status:04X})"
    except (RuntimeError, ValueError) as error:
        return f"the association ended ({error})"
    finally:
        assoc.release()


def _action(transaction_uid: str, rows: Sequence[Any]) -> Dataset:
    """Return the Action Information (PS3.4 Table J.3-1)."""
    ds = Dataset()
    ds.TransactionUID = UID(transaction_uid)
    ds.ReferencedSOPSequence = []
    for row in rows:
        item = Dataset()
        item.ReferencedSOPClassUID = UID(row.sop_class_uid)
        item.ReferencedSOPInstanceUID = UID(row.sop_instance_uid)
        ds.ReferencedSOPSequence.append(item)
    return ds


def _linger(database: Database, assoc: Any, transaction_uid: str) -> None:
    """Keep the association open for a moment, or until a report on it has arrived."""
    waiting = sa.select(delivery.c.id).where(
        delivery.c.transaction_uid == transaction_uid, delivery.c.state == "SENT"
    )
    end = time.monotonic() + LINGER_SECONDS
    while assoc.is_established and time.monotonic() < end:
        with database.reading() as connection:
            if not connection.execute(waiting).first():
                return
        time.sleep(0.05)
