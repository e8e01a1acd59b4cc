"""The tables of the code -> the DICOM conformance statement (PS3.2) in Markdown, so that no fact is written twice."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydicom.charset import python_encoding
from pydicom.sr.coding import Code
from pydicom.uid import UID

from analysis.measures.table import MEASURES

from ..audit import messages as audit_message
from ..delivery import outcome as parcel
from ..delivery import storage_commitment as confirm
from ..dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from ..dicom.uids import CT_CLASSES
from ..intake import mpps as performed
from ..intake import storage_commitment as commit
from ..network import dimse_n as request
from ..network import door, guest, server, tls
from ..network import storage_scp as receive
from ..network import upper_layer as layer
from ..network.association import MAXIMUM_PDU
from ..results import codes
from ..results.kinds import KINDS
from ..settings.config import AuditSettings, ReceiveSettings
from ..settings.destinations import CStoreDestination
from ..settings.peers import Pacs

Row = Sequence[str]

#: Sentences on what this node does after a status or a Failure Reason.
DEEDS: Mapping[str, str] = {
    "sent": "stored",
    "later": "sent again later",
    "never": "given up (DEAD)",
    "again": "sent again",
    "ask": "asked for again",
}


def statement() -> str:
    """Return the whole statement, which depends only on the code."""
    return "\n".join(line for part in PARTS for line in part())


def _overview() -> Iterable[str]:
    yield from (
        "# DICOM conformance statement",
        "",
    )
    yield from _wrapped(
        "Made by `dicom-node conformance` from the tables the code works with; a test holds this file to them. "
        "[deploy/node.toml](../deploy/node.toml) explains every key. For research use: receives chest CT, makes "
        "ventilation/perfusion results and delivers them ([results.md](results.md))."
    )
    yield from ("## Services", "")
    services = [
        ("Verification", "yes", "yes"),
        ("Storage", "yes: every class below", "yes: results"),
        ("Storage Commitment Push Model", "yes: for what was received", "yes: for results"),
        ("Modality Performed Procedure Step", "yes", ""),
        ("Study Root Query/Retrieve FIND, MOVE, GET", "", "yes: the missing phase of a study"),
        ("STOW-RS (PS3.18 10.5)", "", "yes: results"),
        ("Audit trail messages (PS3.15 A.5)", "", "yes"),
    ]
    yield from _table(("service", "as SCP (server)", "as SCU (client)"), services)


def _associations() -> Iterable[str]:
    yield from ("## Associations", "")
    rows = [
        ("application context", "1.2.840.10008.3.1.1.1"),
        ("implementation class UID", IMPLEMENTATION_CLASS_UID),
        ("implementation version name", IMPLEMENTATION_VERSION),
        ("maximum PDU announced", f"{MAXIMUM_PDU} bytes"),
        ("longest PDU taken", f"{layer.PDU_LIMIT} bytes; a longer or unknown one aborts the association"),
        ("asynchronous operations, user identity", "not negotiated"),
        ("longest A-ASSOCIATE-RQ taken", f"{guest.REQUEST_LIMIT} bytes; a longer one aborts the association"),
        ("called AE titles", "any, unless `require_called_ae_title`"),
        (
            "an association is requested within",
            f"{server.REQUEST_SECONDS:g} s of the connection, or of its TLS handshake; the request must be whole "
            "then (ARTIM)",
        ),
        (
            "connections that have not requested an association",
            f"{server.LOBBY} of each of the `acceptors`; one more closes the oldest of the address that has most",
        ),
        ("associations at one time", "`maximum_associations`, of all `acceptors` together"),
        (
            "of one address, or one AE title",
            "`associations_per_peer` of these, by default three quarters; an IPv6 network (/64) is one address",
        ),
        ("a stranger's address", "where every peer has an address: closed before a byte is read"),
        (
            "slowest message",
            f"in every `network_timeout`: {layer.SLOWEST} bytes/s, and {layer.LEAST_SHARE:.1%} of what came before",
        ),
    ]
    yield from _table(("", ""), rows)
    yield from ("Rejections (PS3.8 9.3.4):", "")
    rejected = [(*(str(n) for n in code), when) for code, when in door.REJECTIONS.items()]
    yield from _table(("result", "source", "reason", "when"), rejected)


def _storage() -> Iterable[str]:
    yield from ("## Storage, as SCP", "")
    yield from _wrapped(
        "A success status means that the data set is durable: bytes as received, file and database row synced. It "
        "is not coerced, and not read before that. The same instance again is a success; other content under a "
        "stored SOP Instance UID is kept aside, and the first stays. Level 2 (full)."
    )
    stored = [
        (_hex(code), comment or "stored, or stored before")
        for code, comment in _unique(receive.STATUSES.values())
    ]
    yield from _table(("status", "Error Comment, or meaning"), stored)
    yield from _wrapped(
        "Every class is taken in every transfer syntax below; where several are proposed, the first of this list. "
        f"Only {', '.join(sorted(UID(uid).name for uid in CT_CLASSES))} can be part of a result."
    )
    yield from _uids("transfer syntax", receive.TRANSFER_SYNTAXES)
    yield from _uids("SOP class", receive.STORAGE_CLASSES)


def _requests() -> Iterable[str]:
    yield from ("## Storage Commitment and Performed Procedure Steps, as SCP", "")
    syntaxes = ", ".join(syntax.name for syntax in request.SYNTAXES)
    yield from _wrapped(
        f"Transfer syntaxes: {syntaxes}. A data set of more than {request.LIMIT} bytes is refused."
    )
    roles = [
        (
            UID(uid).name,
            ", ".join(_message(event) for event in service.events),
            _yes(service.scu_role),
            _yes(service.scp_role),
        )
        for uid, service in receive.SERVICES.items()
    ]
    yield from _table(("SOP class", "requests taken", "requestor as SCU", "requestor as SCP"), roles)
    yield from ("### Storage Commitment", "")
    yield from _wrapped(
        "An instance is kept where its row and its whole file are there at the time of the report, which is event "
        "type 1 where all are kept and 2 where some are not. It goes out on the association of the request if that "
        f"is still open after {commit.HERE_SECONDS:g} s; otherwise, from {commit.ELSEWHERE_SECONDS:g} s on, on a new "
        "association (this node proposes the SCP role) to the `port` of the peer in `[[receive.peers]]`, by TLS "
        "where requests come by TLS. What was kept is kept until `[retention]`, off by default, removes its study."
    )
    patient = commit.Requester("", "", 0, "")
    yield from _wrapped(
        f"A report that is not taken is sent again after {patient.retry_seconds:g} s, then after twice as long up to "
        f"{patient.max_retry_seconds:g} s, for {patient.max_age_hours:g} h, through restarts."
    )
    yield from ("Statuses of an N-ACTION:", "")
    yield from _statuses(commit.STATUSES)
    yield from ("Failure Reasons of a report:", "")
    yield from _table(("reason", "when"), [(_hex(code), why) for code, why in commit.FAILURES.items()])
    yield from ("A report is given up where it is answered with:", "")
    yield from _table(("status", "meaning"), [(_hex(code), why) for code, why in commit.REFUSALS.items()])
    yield from ("### Modality Performed Procedure Step", "")
    yield from _wrapped(
        f"States: {', '.join(get_args(performed.StepState))}. Of a step, its Scheduled Step Attributes Sequence "
        "(Study Instance UID), Performed Procedure Step Status and Performed Series Sequence (Series Instance UID, "
        "Referenced Image Sequence) are used and kept; nothing else. A study whose steps are completed, and of which "
        "every listed image is here, is decided on at once; nothing waits for a step. A step is forgotten after "
        f"{performed.FORGET_SECONDS / 86400:g} days."
    )
    yield from ("Statuses of N-CREATE and N-SET:", "")
    yield from _statuses(performed.STATUSES)


def _clients() -> Iterable[str]:
    yield from ("## Results, as SCU", "")
    rows = [
        (
            f"`{kind.name}`" + (" (default)" if kind.default else ""),
            _name(kind.sop_class),
            str(kind.sop_class),
            kind.transfer_syntax.name,
        )
        for kind in KINDS
    ]
    yield from _table(("object", "SOP class", "UID", "transfer syntax"), rows)
    yield from _wrapped("Uncompressed objects are also proposed in Implicit VR Little Endian.")
    yield from ("C-STORE statuses, the first row that fits:", "")
    meanings = [
        (f"{_hex(first)}" + (f" to {_hex(last)}" if last > first else ""), meaning, DEEDS[verdict])
        for first, last, verdict, meaning in parcel.STATUSES
    ]
    yield from _table(("status", "meaning", "then"), meanings)
    yield from _wrapped(
        "No response means unknown: the same object is sent again, with the same UIDs. A refused presentation context "
        "gives up the objects of that class only. With `storage_commitment`, an N-ACTION asks for what was stored; "
        "the report may come on that association or on another. Its Failure Reasons:"
    )
    reasons = [(_hex(code), meaning, DEEDS[answer]) for code, (answer, meaning) in confirm.FAILURES.items()]
    yield from _table(("reason", "meaning", "then"), reasons)
    yield from ("## Query/Retrieve, as SCU", "")
    classes = ", ".join(UID(uid).name for uid in CT_CLASSES)
    yield from _wrapped(
        "Study Root, at SERIES level: Study Instance UID and Modality CT are matched, Series Instance UID and Number "
        "of Series Related Instances asked for. What is missing here comes by C-MOVE to this node, or by C-GET "
        f"({classes}; SCP role proposed)."
    )


def _settings() -> Iterable[str]:
    yield from ("## Limits and time-outs", "", "Defaults; seconds unless the name says otherwise.", "")
    for name, of in (
        ("receive", ReceiveSettings),
        ("destinations", CStoreDestination),
        ("pacs", Pacs),
        ("audit", AuditSettings),
    ):
        rows = [
            (
                f"`[{name}]` `{item.name}`",
                str(item.default).lower() if isinstance(item.default, bool) else str(item.default),
            )
            for item in dataclasses.fields(of)
            if isinstance(item.default, int | float)
        ]
        yield from _table(("key", "default"), rows)


def _security() -> Iterable[str]:
    yield from ("## Security", "")
    yield from _wrapped(
        f"With `[receive.tls]` only TLS is spoken, {tls.OLDEST.name.replace('TLSv', 'TLS ').replace('_', '.')} or "
        f"later (PS3.15 B.9, B.12; RFC 9325), in TLS 1.2 the ciphers `{tls.CIPHERS}`. Every client shows a "
        f"certificate of the `authorities`; a handshake lasts {tls.HANDSHAKE_SECONDS:g} s at most. Revocation lists "
        "(`crl`, or among the `authorities`) are checked for the whole chain. Changed files are used from the next "
        "handshake on. Destinations, the PACS and the audit repository are spoken to by the same rules, and must "
        "have a certificate of their host name. AE titles, addresses, and the certificate that a peer must show "
        "are checked before anything is negotiated. Files are their owner's only."
    )
    yield from ("Audit messages (PS3.15 A.5.1, RFC 5424 over TCP or TLS, or a file):", "")
    told = [
        (
            audit_message.APPLICATION_ACTIVITY,
            f"{_code(audit_message.START)}, {_code(audit_message.STOP)}",
            "start, stop",
        ),
        (
            audit_message.INSTANCES_TRANSFERRED,
            "",
            "a study came from, or results went to, one peer; once it is quiet",
        ),
    ]
    told += [
        (audit_message.APPLICATION_ACTIVITY, _code(audit_message.OPERATED), "retry, cancel, force, assign"),
        (audit_message.EXPORT, "", "export, deidentify"),
        (audit_message.STUDY_DELETED, "", "a study was removed by `[retention]`"),
    ]
    told += [(audit_message.SECURITY_ALERT, _code(code), kind) for kind, code in audit_message.ALERTS.items()]
    yield from _table(("event", "type", "when"), [(_code(event), kind, when) for event, kind, when in told])
    yield from _wrapped(
        "The Patient participant of DICOM Instances Transferred is left out on purpose: no log of this node names a "
        "patient; the Study Instance UID does. A message may arrive twice, and waits in the database while the "
        "repository cannot be reached."
    )


def _contents() -> Iterable[str]:
    yield from ("## Character sets", "")
    terms = ", ".join(f"`{term}`" for term in python_encoding if term)
    yield from _wrapped(
        f"Read: the default repertoire and {terms}. Results have the Specific Character Set of their source images."
    )
    yield from ("## Private codes", "")
    yield from _wrapped(
        f"No private attribute or SOP class is made. Codes of the scheme `{codes.PRIVATE_SCHEME}`:"
    )
    yield from _table(("code", "meaning"), sorted(set(_private_codes())))


PARTS = (_overview, _associations, _storage, _requests, _clients, _settings, _security, _contents)


def _private_codes() -> Iterable[tuple[str, str]]:
    """Return every private code in `objects.codes` and of the audit trail."""
    values = [
        v
        for value in vars(codes).values()
        for v in (value.values() if isinstance(value, Mapping) else [value])
    ]
    for code in (*values, *(codes.measure_code(name) for name in MEASURES)):
        if isinstance(code, Code) and code.scheme_designator == codes.PRIVATE_SCHEME:
            yield f"`{code.value}`", code.meaning
    for value, scheme, meaning in audit_message.ALERTS.values():
        if scheme == codes.PRIVATE_SCHEME:
            yield f"`{value}`", meaning


def _statuses(statuses: Mapping[str, request.Status]) -> Iterable[str]:
    rows = [
        (_hex(s.code), s.comment or "accepted", "" if s.error_id is None else _hex(s.error_id))
        for s in _unique(statuses.values())
    ]
    yield from _table(("status", "Error Comment", "Error ID"), rows)


def _uids(what: str, uids: Iterable[str]) -> Iterable[str]:
    yield from _table((what, "UID"), [(_name(uid), str(uid)) for uid in uids])


def _name(uid: str) -> str:
    return receive.MORE_STORAGE_CLASSES.get(str(uid)) or UID(uid).name


def _unique(values: Iterable[Any]) -> list[Any]:
    """Return each value once, in the order of their codes."""
    return sorted(
        dict.fromkeys(values), key=lambda value: value[0] if isinstance(value, tuple) else value.code
    )


def _table(head: Row, rows: Iterable[Row]) -> Iterable[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows)
    yield ""


def _wrapped(text: str) -> Iterable[str]:
    yield from textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)
    yield ""


def _hex(code: int) -> str:
    return f"0x{code:04X}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _message(event: Any) -> str:
    """Return the name of an event's message, e.g. N-ACTION of EVT_N_ACTION."""
    return str(event.name).removeprefix("EVT_").replace("_", "-")


def _code(code: audit_message.Code) -> str:
    value, scheme, meaning = code
    return f"{meaning} ({value}, {scheme})"
