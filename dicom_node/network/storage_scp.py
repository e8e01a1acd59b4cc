"""An association -> the bytes of its instances, raw -> a status (PS3.4 B.2.3). Never parses a data set."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt, register_uid
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    Verification,
)

from ..errors import Rejected, Unavailable
from ..settings.config import ReceiveSettings
from .admission import Load, Memory
from .association import entity, no_delay
from .dimse_n import SYNTAXES, valid_uid
from .server import CONNECTIONS, Handshake, Server
from .tls import server_context

LOG = logging.getLogger(__name__)

#: How long associations are waited for when the node stops; an instance under way is not acknowledged then.
STOP_SECONDS = 2.0
#: A connection that requests no association for so long is closed (the ARTIM timer, PS3.8 9.1.5), seconds.
REQUEST_SECONDS = 10.0
#: Connections the system keeps until a process accepts them.
BACKLOG = 128

#: Storage classes that pynetdicom's list of 170 omits. CT For Processing (Supplement 252) and the private class of
#: Siemens' consoles for what is no image are kept and trigger nothing.
MORE_STORAGE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2.3": "CT Image Storage - For Processing",
    "1.2.840.10008.5.1.4.1.1.2.4": "Enhanced CT Image Storage - For Processing",
    "1.2.840.10008.5.1.4.1.1.2.5": "Legacy Converted Enhanced CT Image Storage - For Processing",
    "1.3.12.2.1107.5.9.1": "Siemens CSA Non-Image Storage (private)",
    "1.2.840.10008.5.1.4.1.1.30": "Parametric Map Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
}
for number, unknown in enumerate(
    MORE_STORAGE_CLASSES
):  # or pynetdicom accepts the context and aborts the C-STORE
    if unknown not in {str(cx.abstract_syntax) for cx in AllStoragePresentationContexts}:
        register_uid(unknown, f"MoreStorage{number}", StorageServiceClass)
STORAGE_CLASSES = tuple(
    dict.fromkeys(
        [str(cx.abstract_syntax) for cx in AllStoragePresentationContexts] + [*MORE_STORAGE_CLASSES]
    )
)

#: Every one, in the order of preference: with Explicit VR private attributes keep their types.
TRANSFER_SYNTAXES = tuple(sorted(ALL_TRANSFER_SYNTAXES, key=lambda uid: uid != ExplicitVRLittleEndian))


@dataclass(frozen=True)
class Service:
    """A service besides verification and storage: its requests, and the roles the association's requestor may take."""

    events: tuple[Any, ...]
    scu_role: bool
    scp_role: bool


#: Services that are offered where a handler of one of their events is given.
SERVICES: Mapping[str, Service] = {
    # SCU: a scanner that asks (N-ACTION). SCP: a PACS that reports what was asked of it (PS3.4 J.3.3)
    str(StorageCommitmentPushModel): Service((evt.EVT_N_ACTION, evt.EVT_N_EVENT_REPORT), True, True),
    str(ModalityPerformedProcedureStep): Service((evt.EVT_N_CREATE, evt.EVT_N_SET), True, False),
}

Answer = Literal["stored", "same", "other", "invalid uid", "no room", "bug"]

#: Every status this SCP answers a C-STORE with, and the Error Comment (0000,0902) that goes with it.
STATUSES: Mapping[Answer, tuple[int, str]] = {
    "stored": (0x0000, ""),
    "same": (0x0000, ""),
    # PS3.4 B.2.3, Coercion of Data Elements: what this node holds under that UID is not what was sent
    "other": (0xB000, "Other data set kept under this UID; this one quarantined"),
    # PS3.7 Annex C, Invalid SOP Instance: violates the UID construction rules
    "invalid uid": (0x0117, "SOP Class or Instance UID is not a valid UID"),
    # PS3.4 B.2.3, Refused: Out of Resources
    "no room": (0xA700, "Storage or database unavailable, send again later"),
    # PS3.7 Annex C, Processing failure
    "bug": (0x0110, "Internal error, instance not stored"),
}

#: Rejections of an association (PS3.8 9.3.4): result, source, reason.
CALLING_AE_UNKNOWN = (1, 1, 3)
CALLED_AE_UNKNOWN = (1, 1, 7)
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
REJECTIONS: Mapping[tuple[int, int, int], str] = {
    CALLING_AE_UNKNOWN: "`[[receive.peers]]` does not name the calling AE title and address",
    CALLED_AE_UNKNOWN: "another AE title is called, with `require_called_ae_title`",
    LOCAL_LIMIT_EXCEEDED: "too many associations at one time or a minute, or too little room on the disk: try again",
}


@dataclass(frozen=True)
class Received:
    """One instance as it came: UIDs of the command, bytes of the data set."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    address: str
    dataset: memoryview


Store = Callable[[Received], Literal["stored", "same", "other"]]
Alert = Callable[[Literal["rejected", "no TLS"], str, str, str], None]


def listen(settings: ReceiveSettings) -> socket.socket:
    """A socket that listens where the settings say; its queue outlives any process that accepts from it.

    Raises
    ------
    Unavailable
        Where the address or port is taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        raise Unavailable(f"cannot listen on {where}: {error.strerror}") from error


class Receiver:
    """C-ECHO and C-STORE SCP, and SCP of those `SERVICES` it has handlers for.

    Parameters
    ----------
    settings : ReceiveSettings
    store : callable
        Makes an instance durable, then returns what became of it: "stored", "same" or "other". Called in the
        association's thread. Raises `Unavailable` where it cannot.
    free_mb : callable
        Room left on the disk, MB.
    handlers : mapping, optional
        Of the events of `SERVICES`.
    alert : callable, optional
        Told of what is not let in: kind, calling AE title, address, reason.
    """

    def __init__(
        self,
        settings: ReceiveSettings,
        store: Store,
        free_mb: Callable[[], float],
        handlers: Mapping[Any, Callable[[Any], tuple[int | Dataset, Dataset | None]]] | None = None,
        alert: Alert = lambda kind, ae_title, address, reason: None,
    ) -> None:
        self._settings, self._store, self._free_mb, self._alert = settings, store, free_mb, alert
        self._further = dict(handlers or {})
        self._server: Server | None = None
        self._load = Load()
        self._minute, self._requests = 0, Counter[str]()
        self._tls: Handshake | None = None
        if settings.tls is not None:
            failed = lambda address, reason: alert("no TLS", "", address, reason)  # noqa: E731
            self._tls = Handshake(server_context(settings.tls), failed)

    def start(self, listening: socket.socket | None = None, load: Load | None = None) -> int:
        """Accept associations; returns the port.

        Parameters
        ----------
        listening : socket, optional
            Shared with other processes; otherwise one of its own.
        load : Load, optional
            Shared with them too.

        Raises
        ------
        Unavailable
            Where the address or port is taken.
        """
        self._load = load or self._load
        memory = Memory(self._settings.memory_mb * 1_000_000)
        self._server = Server(
            self._ae(), listening or listen(self._settings), self._load, memory, self._handlers(), self._tls
        )
        threading.Thread(target=self._server.serve_forever, name="AcceptorServer", daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Stop listening and abort what is still open; what was not acknowledged will be sent again."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        open_ones = server.active_associations
        for assoc in open_ones:
            # not blocking: that would wait for ever for a peer that connected and said nothing
            assoc.abort(block=False)
        end = time.monotonic() + STOP_SECONDS
        for assoc in open_ones:
            assoc.join(max(0.0, end - time.monotonic()))

    def _handlers(self) -> list[tuple[Any, Callable[..., Any]]]:
        return [
            (evt.EVT_CONN_OPEN, no_delay),
            (evt.EVT_REQUESTED, self._on_request),
            (evt.EVT_C_STORE, partial(on_store, self._store)),
            *self._further.items(),
        ]

    def _ae(self) -> AE:
        ae = entity(self._settings.ae_title)
        ae.acse_timeout = REQUEST_SECONDS
        ae.network_timeout = self._settings.network_timeout
        # ours decides, by all processes' number; this one is of threads, those of silent clients included
        ae.maximum_associations = CONNECTIONS * self._settings.maximum_associations
        ae.add_supported_context(Verification)
        for uid in STORAGE_CLASSES:
            ae.add_supported_context(uid, list(TRANSFER_SYNTAXES))
        for uid, service in SERVICES.items():
            if any(event in self._further for event in service.events):
                syntaxes = [str(syntax) for syntax in SYNTAXES]
                ae.add_supported_context(uid, syntaxes, service.scu_role, service.scp_role)
        return ae

    def _on_request(self, event: Any) -> None:
        """Reject who may not send, or what there is no room for, before anything is negotiated."""
        assoc = event.assoc
        if why := self._why_not(assoc.requestor.primitive, assoc.requestor.address):
            answer, reason = why
            LOG.warning("association rejected: %s", reason)
            if answer != LOCAL_LIMIT_EXCEEDED:  # that is no matter of who asks
                calling = str(assoc.requestor.primitive.calling_ae_title).strip()
                self._alert("rejected", calling, assoc.requestor.address, reason)
            assoc.acse.send_reject(*answer)
            assoc.kill()
            return
        assoc.counted = True
        self._load.count(associations=1)

    def _why_not(self, request: Any, address: str) -> tuple[tuple[int, int, int], str] | None:
        """The rejection an A-ASSOCIATE-RQ gets, and its reason."""
        settings = self._settings
        calling, called = str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()
        if settings.peers and not any(p.matches(calling, address) for p in settings.peers):
            return CALLING_AE_UNKNOWN, f"{calling!r} at {address} is no allowed peer"
        if settings.require_called_ae_title and called not in (settings.ae_title, *settings.called_ae_titles):
            return CALLED_AE_UNKNOWN, f"{calling!r} at {address} calls {called!r}"
        if self._too_often(address):
            return LOCAL_LIMIT_EXCEEDED, f"{address} asks too often"
        if self._load.associations >= settings.maximum_associations:
            return LOCAL_LIMIT_EXCEEDED, "too many associations"
        if (free := self._free_mb()) < settings.min_free_mb:
            return LOCAL_LIMIT_EXCEEDED, f"{free:.0f} MB left on the disk"
        return None

    def _too_often(self, address: str) -> bool:
        """Count this request of an address; True where it had too many in this minute."""
        minute = int(time.monotonic() / 60)
        if minute != self._minute:
            self._minute, self._requests = minute, Counter()
        self._requests[address] += 1
        return self._requests[address] > self._settings.associations_per_minute


def on_store(store: Store, event: Any) -> int | Dataset:
    """Handler of EVT_C_STORE, as SCP and for what a C-GET of this node brings."""
    try:
        answer = _receive(store, event)
    except Unavailable as error:
        LOG.error("C-STORE refused: %s", error)
        answer = "no room"
    except Exception:  # the boundary to the peer: it must get a status, the log the trace
        LOG.exception("C-STORE failed")
        answer = "bug"
    return _status(answer)


def _receive(store: Store, event: Any) -> Answer:
    request = event.request
    try:
        uids = [valid_uid(uid) for uid in (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)]
    except Rejected:
        return "invalid uid"
    answer = store(
        Received(
            sop_class_uid=uids[0],
            sop_instance_uid=uids[1],
            transfer_syntax_uid=str(event.context.transfer_syntax),
            calling_ae=str(event.assoc.requestor.ae_title).strip(),
            address=str(event.assoc.requestor.address or ""),
            dataset=request.DataSet.getbuffer(),
        )
    )
    if answer == "other":
        LOG.warning("instance %s came again with other content: quarantined", uids[1])
    return answer


def _status(answer: Answer) -> int | Dataset:
    code, comment = STATUSES[answer]
    if not comment:
        return code
    status = Dataset()
    status.Status = code
    status.ErrorComment = comment
    return status
