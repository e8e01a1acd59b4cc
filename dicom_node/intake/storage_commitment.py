"""A scanner's request to keep instances -> a report on which are kept: storage commitment SCP (PS3.4 Annex J)."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import build_context, build_role
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode

from ..delivery.outcome import pause
from ..dicom.part10 import file_meta
from ..dicom.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from ..errors import Rejected, Unavailable
from ..network.association import associate
from ..network.dimse_n import COMMON, SYNTAXES, Status, answered, hostile, read_attributes, text, valid_uid
from ..settings.config import ReceiveSettings
from ..settings.peers import TlsSettings
from ..store.database import Database
from ..store.due import is_due
from ..store.tables import commitment, instance

LOG = logging.getLogger(__name__)

#: Time after a request at which the report is sent on its association, if that is still open (s).
HERE_SECONDS = 1.0
#: Time after a request at which the report is otherwise sent on a new association (s).
ELSEWHERE_SECONDS = 3.0
#: Time to wait for the response to a report before the report is sent again (s).
RESPONSE_SECONDS = 30.0
#: Most UIDs looked up at one time, and most reports sent at one tick.
BATCH, REPORTS = 500, 20

#: Every status that answers an N-ACTION (PS3.7 10.1.4.1.10), and its Error Comment.
STATUSES: Mapping[str, Status] = {
    **COMMON,
    "accepted": Status(0x0000),
    "no such instance": Status(0x0112, "Not the well-known SOP Instance of storage commitment"),
    "in use": Status(0x0115, "Transaction UID in use for another request"),
    "no such action": Status(0x0123, "Only action type 1, Request Storage Commitment"),
}

#: Every Failure Reason (0008,1197) of a report (PS3.3 C.14.1.1), and when it is given.
FAILURES: Mapping[int, str] = {
    0x0110: "its file cannot be examined",
    0x0112: "no row, no file, or not a whole file",
    0x0119: "stored under another SOP Class UID",
}

#: Responses after which a report on an association of its own is not repeated (PS3.7 10.1.1.1.8).
REFUSALS: Mapping[int, str] = {
    0x0112: "no such SOP instance",
    0x0113: "no such event type",
    0x0114: "no such argument",
    0x0115: "invalid argument value",
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    0x0119: "class/instance conflict",
}

#: QUEUED: to be reported at `due_at`. REPORTED: the report was accepted. DEAD: it was refused, or given up with age.
CommitmentState = Literal["QUEUED", "REPORTED", "DEAD"]
Reference = tuple[str, str]


@dataclass(frozen=True)
class Requester:
    """The requester of storage commitment: where its reports are sent, and how often they are tried.

    Parameters
    ----------
    ae_title, host, port
        AE title and address of the requester.
    calling_ae_title : str
        AE title by which it called this node.
    tls : TlsSettings, optional
        Certificates of the receiving side, since reports are sent the way that requests come.
    timeout, retry_seconds, max_retry_seconds, max_age_hours : float
        As in `Destination`.
    """

    ae_title: str
    host: str
    port: int
    calling_ae_title: str
    tls: TlsSettings | None = None
    timeout: float = RESPONSE_SECONDS
    retry_seconds: float = 5.0
    max_retry_seconds: float = 900.0
    max_age_hours: float = 72.0

    @property
    def name(self) -> str:
        """Return the requester's name for use in a reason."""
        return "the requester"


@dataclass(frozen=True)
class _Outcome:
    """The outcome of a report: its response's status or why there is none, and how many instances failed."""

    status: int | None = None
    problem: str = ""
    failed: int | None = None


def on_action(database: Database, storage: Path, event: Any) -> tuple[Dataset, None]:
    """Handle EVT_N_ACTION, committing the transaction to the database before the answer."""
    accepted: list[str] = []

    def serve() -> str:
        answer, transaction_uid = _record(database, event, time.time())
        accepted.extend([transaction_uid] if answer == "accepted" else [])
        return answer

    status = answered("a request of storage commitment", serve, STATUSES)
    for transaction_uid in accepted:
        here = partial(_report_here, database, storage, event.assoc, event.context, transaction_uid)
        event.assoc.later(HERE_SECONDS, here)
    return status, None


def check(
    database: Database, storage: Path, asked: Sequence[Reference]
) -> tuple[list[Reference], list[tuple[Reference, int]]]:
    """Return which of some instances are kept, and the Failure Reason of each other one.

    Parameters
    ----------
    asked : sequence of (SOP Class UID, SOP Instance UID)

    Notes
    -----
    An instance is kept where it has a row with that SOP class and a file of the size that was received.
    """
    columns = "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "size", "path"
    query = sa.select(*(instance.c[name] for name in columns))
    rows: dict[str, Any] = {}
    with database.reading() as connection:
        for at in range(0, len(asked), BATCH):
            uids = [uid for _, uid in asked[at : at + BATCH]]
            found = connection.execute(query.where(instance.c.sop_instance_uid.in_(uids)))
            rows.update({row.sop_instance_uid: row for row in found})
    failures = {reference: _why_not_kept(storage, reference, rows.get(reference[1])) for reference in asked}
    return (
        [reference for reference in asked if not failures[reference]],
        [(reference, failures[reference]) for reference in asked if failures[reference]],
    )


def report(
    database: Database,
    storage: Path,
    settings: ReceiveSettings,
    clock: Callable[[], float] = time.time,
) -> None:
    """Send the reports that are due, each on an association of its own."""
    longest = Requester("", "", 0, "").max_retry_seconds
    when = is_due(commitment.c.due_at, clock(), longest)
    query = sa.select(commitment.c.id).where(commitment.c.state == "QUEUED", when)
    with database.reading() as connection:
        due = connection.scalars(query.order_by(commitment.c.due_at).limit(REPORTS)).all()
    for number in due:
        row = _claim(database, sa.and_(commitment.c.id == number, when), clock())
        if row is not None:
            requester = _requester(settings, row)
            outcome = _report_elsewhere(database, storage, requester, row)
            _settle(database, row, requester, outcome, clock())


def _record(database: Database, event: Any, now: float) -> tuple[str, str]:
    """Record a request, which is then due, and return the answer to it and its Transaction UID."""
    request, requestor = event.request, event.assoc.requestor
    if str(request.RequestedSOPInstanceUID) != STORAGE_COMMITMENT_INSTANCE:
        return "no such instance", ""
    if request.ActionTypeID != 1:
        return "no such action", ""
    ds = read_attributes(request.ActionInformation, event.context.transfer_syntax)
    with hostile():
        transaction_uid = valid_uid(text(ds, "TransactionUID"))
        items = ds.get("ReferencedSOPSequence") or []
        asked = [
            (
                valid_uid(text(item, "ReferencedSOPClassUID")),
                valid_uid(text(item, "ReferencedSOPInstanceUID")),
            )
            for item in items
        ]
    if not asked:
        raise Rejected("it references no instance")
    references = json.dumps(asked)
    calling = str(requestor.ae_title).strip()
    values = {
        "transaction_uid": transaction_uid,
        "calling_ae": calling,
        "called_ae": str(requestor.primitive.called_ae_title).strip(),
        "address": requestor.address,
        "digest": hashlib.sha256(f"{calling}\n{references}".encode()).hexdigest(),
        "asked": references,
        "objects": len(asked),
        "failed": None,
        "state": "QUEUED",
        "since": now,
        "created": now,
        "due_at": now + ELSEWHERE_SECONDS,
        "attempts": 0,
        "reason": "",
    }
    again = database.insert(commitment).values(**values)
    # a repeated request, e.g. where the response was lost, is reported once more
    again = again.on_conflict_do_update(
        index_elements=["transaction_uid"], set_=values, where=commitment.c.digest == values["digest"]
    )
    with database.writing() as connection:
        taken = connection.execute(again).rowcount
    LOG.info("%s asks to commit to %d instances (transaction %s)", calling, len(asked), transaction_uid)
    return ("accepted" if taken else "in use"), transaction_uid


def _why_not_kept(storage: Path, reference: Reference, row: Any) -> int:
    """Return 0 where an instance is kept, else the Failure Reason."""
    if row is None:
        return 0x0112
    if row.sop_class_uid != reference[0]:
        return 0x0119
    head = file_meta(row.sop_class_uid, row.sop_instance_uid, row.transfer_syntax_uid)
    try:
        size = (storage / row.path).stat().st_size
    except FileNotFoundError:
        return 0x0112
    except OSError:
        return 0x0110
    return 0 if size == len(head) + row.size else 0x0112


def _claim(database: Database, where: Any, now: float) -> Any:
    """Claim a transaction to be reported now, so that nobody else does; return None where there is none.

    Where the claiming process dies, the transaction is due again after `RESPONSE_SECONDS`.
    """
    with database.writing() as connection:
        row = connection.execute(sa.select(commitment).where(where, commitment.c.state == "QUEUED")).first()
        if row is not None:
            claimed = {"due_at": now + 2 * RESPONSE_SECONDS, "attempts": row.attempts + 1}
            connection.execute(sa.update(commitment).where(commitment.c.id == row.id).values(**claimed))
        return row


def _report_here(database: Database, storage: Path, assoc: Any, context: Any, transaction_uid: str) -> None:
    """Report on the association of the request, which is still open."""
    first = sa.and_(commitment.c.transaction_uid == transaction_uid, commitment.c.attempts == 0)
    row = _claim(database, first, time.time())
    if row is None:
        return
    ds, event_type, failed = _event(database, storage, row)
    syntax = UID(context.transfer_syntax)
    primitive = N_EVENT_REPORT()
    primitive.MessageID = 1
    primitive.AffectedSOPClassUID = STORAGE_COMMITMENT
    primitive.AffectedSOPInstanceUID = STORAGE_COMMITMENT_INSTANCE
    primitive.EventTypeID = event_type
    primitive.EventInformation = BytesIO(encode(ds, syntax.is_implicit_VR, syntax.is_little_endian) or b"")

    def on_response(status: int | None) -> None:
        # what it refuses here it may accept on a new association, which is tried at once
        requester = Requester(row.calling_ae, row.address, 0, row.called_ae, retry_seconds=0.0)
        problem = f"refused on the association of the request (0x{status or 0:04X})"
        taken = _Outcome(0x0000, "", failed) if status == 0x0000 else _Outcome(None, problem, failed)
        _settle(database, row, requester, taken, time.time())

    assoc.ask(primitive, context.context_id, on_response)


def _report_elsewhere(database: Database, storage: Path, requester: Requester, row: Any) -> _Outcome:
    """Report on a new association."""
    if not requester.port:
        where = f"{requester.ae_title} at {requester.host}"
        return _Outcome(problem=f"no port for reports to {where} in [[receive.peers]]")
    contexts = [build_context(STORAGE_COMMITMENT, [str(s) for s in SYNTAXES])]
    role = build_role(STORAGE_COMMITMENT, scp_role=True)
    try:
        assoc = associate(requester, requester.calling_ae_title, contexts, ext_neg=[role])
    except Unavailable as error:
        return _Outcome(problem=str(error))
    try:
        if not assoc.accepted_contexts:
            return _Outcome(problem="it takes no reports of storage commitment")
        ds, event_type, failed = _event(database, storage, row)
        response, _ = assoc.send_n_event_report(
            ds, event_type, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
        )
        if (status := response.get("Status")) is None:
            return _Outcome(problem="no response to the report")
        return _Outcome(int(status), "" if status == 0x0000 else f"refused (0x{status:04X})", failed)
    except (RuntimeError, ValueError) as error:
        return _Outcome(problem=f"the association ended ({error})")
    finally:
        assoc.release()


def _event(database: Database, storage: Path, row: Any) -> tuple[Dataset, int, int]:
    """Return Event Information, Event Type ID (PS3.4 J.3.3.1) and the number of failed instances."""
    asked: list[Reference] = [(sop_class, uid) for sop_class, uid in json.loads(row.asked)]
    kept, failed = check(database, storage, asked)
    ds = Dataset()
    ds.TransactionUID = UID(row.transaction_uid)
    if kept:
        ds.ReferencedSOPSequence = list(_items(kept))
    if failed:
        ds.FailedSOPSequence = list(_items([reference for reference, _ in failed]))
        for item, (_, reason) in zip(ds.FailedSOPSequence, failed, strict=True):
            item.FailureReason = reason
    return ds, 2 if failed else 1, len(failed)


def _items(references: Sequence[Reference]) -> Iterator[Dataset]:
    for sop_class_uid, sop_instance_uid in references:
        item = Dataset()
        item.ReferencedSOPClassUID = UID(sop_class_uid)
        item.ReferencedSOPInstanceUID = UID(sop_instance_uid)
        yield item


def _requester(settings: ReceiveSettings, row: Any) -> Requester:
    """Return the requester of a report: the settings of the first peer that matches it."""
    for peer in settings.peers:
        if peer.port and peer.matches(row.calling_ae, row.address):
            host = peer.host or row.address
            return Requester(row.calling_ae, host, peer.port, row.called_ae, settings.tls)
    return Requester(row.calling_ae, row.address, 0, row.called_ae)


def _settle(database: Database, row: Any, requester: Requester, outcome: _Outcome, now: float) -> None:
    """Record the outcome of a report."""
    status = -1 if outcome.status is None else outcome.status
    values: dict[str, Any] = {"reason": outcome.problem, "since": now}
    if status == 0x0000:
        values |= {"state": "REPORTED", "asked": "[]", "failed": outcome.failed}
    elif status in REFUSALS:
        reason = f"the report was refused: {REFUSALS[status]} (0x{status:04X})"
        values |= {"state": "DEAD", "reason": reason, "failed": outcome.failed}
    elif now - row.created > requester.max_age_hours * 3600:
        values |= {
            "state": "DEAD",
            "reason": f"given up after {requester.max_age_hours:g} h: {outcome.problem}",
        }
    else:
        values = {"reason": outcome.problem, "due_at": now + pause(requester, row.attempts)}
    log = LOG.info if status == 0x0000 else LOG.warning
    log("storage commitment %s: %s", row.transaction_uid, outcome.problem or "reported")
    where = commitment.c.id == row.id, commitment.c.state == "QUEUED"
    with database.writing() as connection:
        connection.execute(sa.update(commitment).where(*where).values(**values))
