"""An event -> a DICOM audit message (PS3.15 A.5) in XML, without the patient, who must not appear in our logs.

The Patient participant of A.5.3.7 is left out; the Study Instance UID identifies what was transferred.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, tostring

from ..printable import printable

Code = tuple[str, str, str]

#: Codes of events, their types and roles (CID 400 to 403); where CID 403 has none, a private code of scheme 99VQ.
APPLICATION_ACTIVITY: Code = ("110100", "DCM", "Application Activity")
START: Code = ("110120", "DCM", "Application Start")
STOP: Code = ("110121", "DCM", "Application Stop")
INSTANCES_TRANSFERRED: Code = ("110104", "DCM", "DICOM Instances Transferred")
SECURITY_ALERT: Code = ("110113", "DCM", "Security Alert")
STUDY_DELETED: Code = ("110105", "DCM", "DICOM Study Deleted")
EXPORT: Code = ("110106", "DCM", "Export")
USER_AUTHENTICATION: Code = ("110114", "DCM", "User Authentication")
LOGIN: Code = ("110122", "DCM", "Login")
LOGOUT: Code = ("110123", "DCM", "Logout")
INSTANCES_ACCESSED: Code = ("110103", "DCM", "DICOM Instances Accessed")
QUERY: Code = ("110112", "DCM", "Query")
OPERATED: Code = ("operator", "99VQ", "An operator decided")
DESTINATION_MEDIA: Code = ("110154", "DCM", "Destination Media")
APPLICATION: Code = ("110150", "DCM", "Application")
DESTINATION: Code = ("110152", "DCM", "Destination Role ID")
SOURCE: Code = ("110153", "DCM", "Source Role ID")
STUDY: Code = ("110180", "DCM", "Study Instance UID")

AlertKind = Literal["rejected", "no TLS", "quarantined", "two patients", "page"]
ALERTS: Mapping[AlertKind, Code] = {
    "rejected": ("110126", "DCM", "Node Authentication"),
    "no TLS": ("110126", "DCM", "Node Authentication"),
    "quarantined": ("quarantined", "99VQ", "Other content under a stored SOP Instance UID"),
    "two patients": ("two patients", "99VQ", "Series of two patients where one pair was expected"),
    "page": ("page", "99VQ", "A request to the page that was refused"),
}

#: EventOutcomeIndicator: success, and a minor failure.
WELL, MINOR_FAILURE = "0", "4"


@dataclass(frozen=True)
class Party:
    """One participant of an event.

    Parameters
    ----------
    ae_title, address : str
        AE title and address; "" where unknown.
    own : bool
        True for this node, whose process ID is known.
    """

    ae_title: str
    address: str = ""
    own: bool = False


def activity(source: Party, started: bool, at: float) -> bytes:
    """Return an Application Activity message (A.5.3.1): the node started or stopped."""
    root = _event(APPLICATION_ACTIVITY, "E", WELL, at, START if started else STOP)
    _participant(root, source, APPLICATION, requestor=False)
    return _finished(root, source)


def operated(source: Party, user: str, what: str, at: float) -> bytes:
    """Return an Application Activity message (A.5.3.1): a person decided something with a command."""
    root = _event(APPLICATION_ACTIVITY, "E", WELL, at, OPERATED, what)
    _participant(root, source, APPLICATION, requestor=False)
    _person(root, user)
    return _finished(root, source)


def exported(source: Party, user: str, study_uid: str, at: float) -> bytes:
    """Return an Export message (A.5.3.4): a person wrote images or results of a study into a folder."""
    root = _event(EXPORT, "R", WELL, at)
    _person(root, user, SOURCE)
    media = {"UserID": "folder", "UserIsRequestor": "false"}
    found = SubElement(root, "ActiveParticipant", media)
    _coded(found, "RoleIDCode", DESTINATION_MEDIA)
    _source(root, source)
    _study(root, study_uid)
    return tostring(root)


def authenticated(source: Party, user: str, address: str, entered: bool, well: bool, at: float) -> bytes:
    """Return a User Authentication message (A.5.3.12): somebody logged in or out of the page, or was not let in."""
    outcome = WELL if well else MINOR_FAILURE
    root = _event(USER_AUTHENTICATION, "E", outcome, at, LOGIN if entered else LOGOUT)
    _participant(root, source, None, requestor=False)
    _person(root, user, address=address)
    return _finished(root, source)


def accessed(source: Party, user: str, study_uid: str, at: float) -> bytes:
    """Return a DICOM Instances Accessed message (A.5.3.6): a person looked at a study or its result on the page."""
    root = _event(INSTANCES_ACCESSED, "R", WELL, at)
    _participant(root, source, None, requestor=False)
    _person(root, user)
    _source(root, source)
    _study(root, study_uid)
    return tostring(root)


def queried(source: Party, user: str, at: float) -> bytes:
    """Return a Query message (A.5.3.10): a person searched on the page. The words may be the patient's: left out."""
    root = _event(QUERY, "E", WELL, at)
    _participant(root, source, None, requestor=False)
    _person(root, user)
    return _finished(root, source)


def deleted(source: Party, study_uid: str, at: float) -> bytes:
    """Return a DICOM Study Deleted message (A.5.3.8): images and results of a study were removed."""
    root = _event(STUDY_DELETED, "D", WELL, at)
    _participant(root, source, None, requestor=True)
    _source(root, source)
    _study(root, study_uid)
    return tostring(root)


def transferred(
    source: Party, sender: Party, receiver: Party, study_uid: str, counts: Mapping[str, int], at: float
) -> bytes:
    """Return a DICOM Instances Transferred message (A.5.3.7) for one study.

    Parameters
    ----------
    source : Party
        This node, which is also the sender or the receiver.
    counts : mapping of SOP Class UID to int
    """
    # a sender does not know what the receiver held before, so its action is Read
    root = _event(INSTANCES_TRANSFERRED, "C" if receiver.own else "R", WELL, at)
    _participant(root, sender, SOURCE, requestor=True)
    _participant(root, receiver, DESTINATION, requestor=False)
    _source(root, source)
    found = _study(root, study_uid)
    description = SubElement(found, "ParticipantObjectDescription")
    for uid, count in sorted(counts.items()):
        SubElement(description, "SOPClass", UID=printable(uid), NumberOfInstances=str(count))
    return tostring(root)


def alert(source: Party, kind: AlertKind, peer: Party, reason: str, at: float) -> bytes:
    """Return a Security Alert message (A.5.3.11): what a peer attempted and that it was prevented."""
    root = _event(SECURITY_ALERT, "E", MINOR_FAILURE, at, ALERTS[kind], reason)
    _participant(root, source, None, requestor=False)
    _participant(root, peer, None, requestor=False)
    return _finished(root, source)


def _event(
    event_id: Code, action: str, outcome: str, at: float, event_type: Code | None = None, text: str = ""
) -> Element:
    root = Element("AuditMessage")
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    event = SubElement(
        root, "EventIdentification", EventActionCode=action, EventDateTime=when, EventOutcomeIndicator=outcome
    )
    _coded(event, "EventID", event_id)
    if event_type is not None:
        _coded(event, "EventTypeCode", event_type)
    if text:
        SubElement(event, "EventOutcomeDescription").text = printable(text)
    return root


def _participant(root: Element, party: Party, role: Code | None, *, requestor: bool) -> None:
    """Add a process; of one on another machine, only AE title or address are known (A.5.2.1)."""
    title = printable(party.ae_title)
    user = str(os.getpid()) if party.own else title or party.address or "unknown"
    values = {"UserID": user, "UserIsRequestor": str(requestor).lower()}
    if title:
        values["AlternativeUserID"] = f"AETITLES={title}"
    if party.address:
        values |= {"NetworkAccessPointID": party.address, "NetworkAccessPointTypeCode": "2"}
    found = SubElement(root, "ActiveParticipant", values)
    if role is not None:
        _coded(found, "RoleIDCode", role)


def _person(root: Element, user: str, role: Code | None = None, address: str = "") -> None:
    """Add a person: under the operating system's user name for a command, under the page's for the page."""
    values = {"UserID": printable(user) or "unknown", "UserIsRequestor": "true"}
    if address:
        values |= {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": "2"}
    found = SubElement(root, "ActiveParticipant", values)
    if role is not None:
        _coded(found, "RoleIDCode", role)


def _study(root: Element, study_uid: str) -> Element:
    study = {"ParticipantObjectID": printable(study_uid), "ParticipantObjectTypeCode": "2"}
    found = SubElement(root, "ParticipantObjectIdentification", study, ParticipantObjectTypeCodeRole="3")
    _coded(found, "ParticipantObjectIDTypeCode", STUDY)
    SubElement(found, "ParticipantObjectName").text = "study"
    return found


def _finished(root: Element, source: Party) -> bytes:
    _source(root, source)
    return tostring(root)


def _source(root: Element, source: Party) -> None:
    found = SubElement(root, "AuditSourceIdentification", AuditSourceID=source.ae_title)
    SubElement(found, "AuditSourceTypeCode", {"csd-code": "4"})  # an application server


def _coded(parent: Element, name: str, code: Code) -> None:
    value, scheme, meaning = code
    SubElement(parent, name, {"csd-code": value, "codeSystemName": scheme, "originalText": meaning})
