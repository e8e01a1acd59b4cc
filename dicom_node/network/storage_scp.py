"""An association -> the raw bytes of its instances -> a status (PS3.4 B.2.3). No data set is parsed here."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt, register_uid
from pynetdicom.service_class import StorageServiceClass

from ..dicom.uids import PERFORMED_PROCEDURE_STEP, STORAGE_COMMITMENT, VERIFICATION
from ..errors import Rejected, Unavailable
from ..printable import printable
from ..settings.config import ReceiveSettings
from .admission import Load, Memory
from .association import entity
from .associations import Associations
from .dimse_n import SYNTAXES, valid_uid
from .door import Alert, Door
from .server import REQUEST_SECONDS, Server
from .tls import Certificates
from .visits import Visits

LOG = logging.getLogger(__name__)

#: Time to wait for associations to end when the node stops (s); an instance still under way is not acknowledged.
STOP_SECONDS = 2.0
#: Most connections that the system queues until a process accepts them.
BACKLOG = 512
#: Switches off pynetdicom's own limit, which counts threads that are ending too; the door has counted already.
NO_LIMIT = 1 << 16

#: Storage classes that pynetdicom's list of 170 omits: those of Supplement 252, which no pair needs, and the private
#: one in which Siemens consoles send objects that are not images. Their instances are kept and trigger nothing.
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

#: Every transfer syntax in order of preference: Explicit VR first, since it keeps the types of private attributes.
TRANSFER_SYNTAXES = tuple(sorted(ALL_TRANSFER_SYNTAXES, key=lambda uid: uid != ExplicitVRLittleEndian))


@dataclass(frozen=True)
class Service:
    """A service besides verification and storage: its events, and the roles that the requestor may take."""

    events: tuple[Any, ...]
    scu_role: bool
    scp_role: bool


#: Services that are offered where a handler for one of their events is given.
SERVICES: Mapping[str, Service] = {
    # SCU: a scanner that requests (N-ACTION). SCP: a PACS that reports on this node's request (PS3.4 J.3.3)
    str(STORAGE_COMMITMENT): Service((evt.EVT_N_ACTION, evt.EVT_N_EVENT_REPORT), True, True),
    str(PERFORMED_PROCEDURE_STEP): Service((evt.EVT_N_CREATE, evt.EVT_N_SET), True, False),
}

Answer = Literal["stored", "same", "other", "invalid uid", "no room", "bug"]

#: Every status with which this SCP answers a C-STORE, and its Error Comment (0000,0902).
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


@dataclass(frozen=True)
class Received:
    """One instance as received: the UIDs of the command and the bytes of the data set."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    address: str
    dataset: memoryview


Store = Callable[[Received], Literal["stored", "same", "other"]]


def listen(settings: ReceiveSettings) -> socket.socket:
    """Return a socket that listens as the settings say; its queue outlives any process that accepts from it.

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
    """The SCP of C-ECHO and C-STORE, and of those `SERVICES` for which it has handlers.

    Parameters
    ----------
    settings : ReceiveSettings
    store : callable
        Makes an instance durable and returns what became of it: "stored", "same" or "other". It is called in the
        association's thread and raises `Unavailable` where it cannot store now.
    free_mb : callable
        Room left on the disk, MB.
    handlers : mapping, optional
        Handlers for events of `SERVICES`.
    alert : callable, optional
        Called with kind, calling AE title, address and reason for each caller that is refused, but not for want of
        room.
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
        self.visits = Visits()
        self._server: Server | None = None
        self._associations: Associations
        self._certificates = None if settings.tls is None else Certificates(settings.tls)

    def start(self, listening: socket.socket | None = None, load: Load | None = None) -> int:
        """Start accepting associations and return the port.

        Parameters
        ----------
        listening : socket, optional
            Socket shared with other processes; without it, one is opened here.
        load : Load, optional
            Counts shared with those processes.

        Raises
        ------
        Unavailable
            Where the address or port is taken.
        """
        settings, listening = self._settings, listening or listen(self._settings)
        load = load or Load(settings.maximum_associations)
        handlers = [(evt.EVT_C_STORE, partial(_on_visit, self._store)), *self._further.items()]
        memory = Memory(settings.memory_mb * 1_000_000)
        self._associations = Associations(self._ae(), handlers, load, memory, self.visits.ended)
        door = Door(settings, load, self._free_mb)
        told = self._certificates, self._alert, self.visits.refused
        self._server = Server(listening, door, load, self._associations, *told)
        self._server.start()
        return int(listening.getsockname()[1])

    @property
    def accepts(self) -> bool:
        """Return whether connections are being accepted."""
        return self._server is not None and self._server.is_alive()

    def stop(self) -> None:
        """Stop listening and abort open associations; their peers send again what was not acknowledged."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.stop()
        open_ones = self._associations.open
        for assoc in open_ones:
            # blocking would wait for ever for a peer that connected and sent nothing
            assoc.abort(block=False)
        end = time.monotonic() + STOP_SECONDS
        for assoc in open_ones:
            assoc.join(max(0.0, end - time.monotonic()))

    def _ae(self) -> AE:
        ae = entity(self._settings.ae_title)
        ae.acse_timeout = REQUEST_SECONDS
        ae.network_timeout = self._settings.network_timeout
        ae.maximum_associations = NO_LIMIT
        ae.add_supported_context(VERIFICATION)
        for uid in STORAGE_CLASSES:
            ae.add_supported_context(uid, list(TRANSFER_SYNTAXES))
        for uid, service in SERVICES.items():
            if any(event in self._further for event in service.events):
                syntaxes = [str(syntax) for syntax in SYNTAXES]
                ae.add_supported_context(uid, syntaxes, service.scu_role, service.scp_role)
        return ae


def _on_visit(store: Store, event: Any) -> int | Dataset:
    """Handle EVT_C_STORE of an association that a peer made, and count for its line in the log."""
    status = on_store(store, event)
    code = status if isinstance(status, int) else int(status.Status)
    visit = event.assoc.visit
    if code in (0x0000, 0xB000):
        visit.instances += 1
        visit.size += event.request.DataSet.getbuffer().nbytes
    else:
        visit.refused += 1
    return status


def on_store(store: Store, event: Any) -> int | Dataset:
    """Handle EVT_C_STORE, as SCP and for the instances that a C-GET of this node retrieves."""
    try:
        answer = _receive(store, event)
    except Unavailable as error:
        LOG.error("C-STORE refused: %s", printable(str(error)))
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
