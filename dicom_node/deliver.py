"""Results -> their destinations by C-STORE, each with a queue of its own, until all are answered for."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt

from .association import MAXIMUM_PDU, keep_responses, no_delay
from .config import Destination
from .database import Database, delivery, result
from .errors import Rejected

LOG = logging.getLogger(__name__)

DeliveryState = Literal["QUEUED", "SENT", "DEAD"]
Verdict = Literal["sent", "later", "never"]
UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
BATCH = 100

#: A delivery is created QUEUED (a): letter, source, target of each further move.
MOVES: Mapping[str, tuple[str, DeliveryState, DeliveryState]] = {
    "sent": ("b", "QUEUED", "SENT"),
    "later": ("c", "QUEUED", "QUEUED"),
    "never": ("d", "QUEUED", "DEAD"),
    "retry": ("e", "DEAD", "QUEUED"),
}

#: What to do after a C-STORE response (PS3.4 B.2.3, PS3.7 Annex C): first and last status, verdict, meaning.
STATUSES: tuple[tuple[int, int, Verdict, str], ...] = (
    (0x0000, 0x0000, "sent", "stored"),
    (0xB000, 0xBFFF, "sent", "stored with a warning"),
    (0x0117, 0x0117, "never", "refused: invalid SOP instance"),
    (0x0122, 0x0122, "never", "refused: SOP class not supported"),
    (0xA700, 0xA7FF, "later", "refused: out of resources"),
    (0xA900, 0xA9FF, "never", "refused: data set does not match its SOP class"),
    (0xC000, 0xCFFF, "later", "refused: cannot understand"),
    (0x0000, 0xFFFF, "later", "refused"),
)


@dataclass(frozen=True)
class Parcel:
    """One object due at one destination."""

    id: int
    sop_instance_uid: str
    sop_class_uid: str
    path: Path
    created: float
    attempts: int


def queue(
    database: Database,
    connection: sa.Connection,
    uids: Iterable[str],
    destinations: Iterable[str],
    now: float,
) -> None:
    """Queue stored results for every destination, once."""
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
) -> None:
    """Send what is due at one destination, over one association; records what became of each object.

    A response that did not come means unknown: the object is sent again, with the same UIDs.
    """
    found = due(database, storage, destination, clock())
    parcels = [parcel for parcel in found if parcel.path.is_file()]
    for parcel in found:
        if parcel not in parcels:
            _record(database, destination, parcel, ("never", None, "its file is gone"), clock())
    if not parcels:
        return
    assoc = _associate(destination, calling_ae_title, parcels)
    if not assoc.is_established:
        why = _why_not(assoc, destination)
        for parcel in parcels:
            _record(database, destination, parcel, ("later", None, why), clock())
        return
    taken = {str(cx.abstract_syntax) for cx in assoc.accepted_contexts}
    try:
        for parcel in parcels:
            if not assoc.is_established:
                break  # the rest stays due
            verdict = (
                _send(assoc, parcel) if parcel.sop_class_uid in taken else _not_taken(destination, parcel)
            )
            _record(database, destination, parcel, verdict, clock())
    finally:
        assoc.release()


def due(database: Database, storage: Path, destination: Destination, now: float) -> list[Parcel]:
    """What is due at a destination, the oldest first.

    A time further ahead than the longest pause can only come of a clock that was set back; it counts as due.
    """
    when = sa.or_(delivery.c.due_at <= now, delivery.c.due_at > now + destination.max_retry_seconds)
    columns = delivery.c.id, delivery.c.created, delivery.c.attempts
    query = (
        sa.select(*columns, result.c.sop_instance_uid, result.c.sop_class_uid, result.c.path)
        .join(result)
        .where(delivery.c.destination == destination.name, delivery.c.state == "QUEUED", when)
        .order_by(delivery.c.id)
        .limit(BATCH)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return [
        Parcel(r.id, r.sop_instance_uid, r.sop_class_uid, storage / r.path, r.created, r.attempts)
        for r in rows
    ]


def pause(destination: Destination, attempts: int) -> float:
    """Seconds until the next attempt: doubled each time up to the longest, less up to a quarter of jitter."""
    longest = min(destination.retry_seconds * 2.0 ** min(attempts, 30), destination.max_retry_seconds)
    return longest * random.uniform(0.75, 1.0)


def judge(status: int) -> tuple[Verdict, str]:
    """What to do after a status, and its meaning.

    Examples
    --------
    >>> judge(0xA700)
    ('later', 'refused: out of resources (0xA700)')
    """
    for first, last, verdict, meaning in STATUSES:
        if first <= status <= last:
            return verdict, f"{meaning} (0x{status:04X})"
    raise Rejected(f"{status} is no DIMSE status")


def echo(destination: Destination, calling_ae_title: str) -> str:
    """C-ECHO a destination: "" where it answers, else why not."""
    ae = _ae(destination, calling_ae_title)
    ae.add_requested_context("1.2.840.10008.1.1")
    assoc = ae.associate(destination.host, destination.port, ae_title=destination.ae_title)
    if not assoc.is_established:
        return _why_not(assoc, destination)
    keep_responses(assoc)
    response = assoc.send_c_echo()
    assoc.release()
    return "" if response and response.Status == 0 else f"{destination.name} does not answer a C-ECHO"


def retry(database: Database, job_id: int, now: float) -> int:
    """Queue again what of a job was given up; returns how many objects."""
    _, source, target = MOVES["retry"]
    mine = sa.select(result.c.sop_instance_uid).where(result.c.job_id == job_id)
    where = delivery.c.sop_instance_uid.in_(mine), delivery.c.state == source
    fresh = {"state": target, "since": now, "created": now, "due_at": now, "attempts": 0, "reason": ""}
    with database.writing() as connection:
        return connection.execute(sa.update(delivery).where(*where).values(**fresh)).rowcount


def _ae(destination: Destination, calling_ae_title: str) -> AE:
    ae = AE(destination.calling_ae_title or calling_ae_title)
    ae.maximum_pdu_size = MAXIMUM_PDU
    ae.connection_timeout = ae.acse_timeout = destination.timeout
    ae.dimse_timeout = ae.network_timeout = destination.timeout
    return ae


def _associate(destination: Destination, calling_ae_title: str, parcels: list[Parcel]) -> Any:
    wanted: dict[str, set[str]] = {}
    for parcel in parcels:
        syntax = str(read_file_meta_info(parcel.path).TransferSyntaxUID)
        syntaxes = UNCOMPRESSED if syntax in UNCOMPRESSED else (syntax,)
        wanted.setdefault(parcel.sop_class_uid, set()).update(syntaxes)
    assoc = _ae(destination, calling_ae_title).associate(
        destination.host,
        destination.port,
        contexts=[build_context(uid, sorted(syntaxes, reverse=True)) for uid, syntaxes in wanted.items()],
        ae_title=destination.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, no_delay)],
    )
    keep_responses(assoc)
    return assoc


def _why_not(assoc: Any, destination: Destination) -> str:
    where = f"{destination.name} ({destination.ae_title} at {destination.host}:{destination.port})"
    if assoc.is_rejected:
        return f"{where} rejects the association: {assoc.acceptor.primitive.reason_str}"
    return f"{where} cannot be reached"


def _not_taken(destination: Destination, parcel: Parcel) -> tuple[Verdict, int | None, str]:
    return "never", None, f"{destination.name} does not accept {UID(parcel.sop_class_uid).name}"


def _send(assoc: Any, parcel: Parcel) -> tuple[Verdict, int | None, str]:
    try:
        response = assoc.send_c_store(dcmread(parcel.path))
    except RuntimeError:
        return "later", None, "the association ended"
    except ValueError as error:
        return "never", None, f"cannot be sent: {error}"
    if "Status" not in response:
        return "later", None, "no response to the C-STORE: it may have arrived or not"
    status = int(response.Status)
    verdict, meaning = judge(status)
    return verdict, status, meaning


def _record(
    database: Database,
    destination: Destination,
    parcel: Parcel,
    verdict: tuple[Verdict, int | None, str],
    now: float,
) -> None:
    name, status, reason = verdict
    if name == "later" and now - parcel.created > destination.max_age_hours * 3600:
        name, reason = "never", f"given up after {destination.max_age_hours:g} h: {reason}"
    _, source, target = MOVES[name]
    values: dict[str, Any] = {
        "state": target,
        "status": status,
        "reason": reason,
        "attempts": parcel.attempts + 1,
    }
    if name == "later":
        values["due_at"] = now + pause(destination, parcel.attempts)
    else:
        values["since"] = now
    log = LOG.info if name == "sent" else LOG.warning
    log("object %s to %s: %s", parcel.sop_instance_uid, destination.name, reason)
    where = delivery.c.id == parcel.id, delivery.c.state == source
    with database.writing() as connection:
        connection.execute(sa.update(delivery).where(*where).values(**values))
