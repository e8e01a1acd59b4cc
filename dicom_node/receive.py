"""An association -> the bytes of its instances, raw -> a status (PS3.4 B.2.3). Never parses a data set."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydicom import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from .association import MAXIMUM_PDU, no_delay
from .config import ReceiveSettings
from .errors import Unavailable
from .tls import Server, server_context

LOG = logging.getLogger(__name__)

#: How long associations are waited for when the node stops; an instance under way is not acknowledged then.
STOP_SECONDS = 2.0

VALID_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
#: Storage classes that pynetdicom's list of 170 omits.
MORE_STORAGE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.30": "Parametric Map Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
}
STORAGE_CLASSES = tuple(
    dict.fromkeys(
        [str(cx.abstract_syntax) for cx in AllStoragePresentationContexts] + [*MORE_STORAGE_CLASSES]
    )
)

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
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


@dataclass(frozen=True)
class Received:
    """One instance as it came: UIDs of the command, bytes of the data set."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    dataset: memoryview


class Receiver:
    """C-ECHO and C-STORE SCP.

    Parameters
    ----------
    settings : ReceiveSettings
    store : callable
        Makes an instance durable, then returns what became of it: "stored", "same" or "other". Called in the
        association's thread. Raises `Unavailable` where it cannot.
    free_mb : callable
        Room left on the disk, MB.
    on_report : callable, optional
        Handler of EVT_N_EVENT_REPORT: what a PACS reports of a storage commitment that was asked of it.
    """

    def __init__(
        self,
        settings: ReceiveSettings,
        store: Callable[[Received], Literal["stored", "same", "other"]],
        free_mb: Callable[[], float],
        on_report: Callable[[Any], tuple[int, Dataset | None]] | None = None,
    ) -> None:
        self._settings, self._store, self._free_mb = settings, store, free_mb
        self._on_report = on_report
        self._server: Any = None
        self._tls = None if settings.tls is None else server_context(settings.tls)

    def start(self) -> int:
        """Listen; returns the port.

        Raises
        ------
        Unavailable
            Where the address or port is taken.
        """
        address = (self._settings.host, self._settings.port)
        handlers: list[tuple[Any, Callable[..., Any]]] = [
            (evt.EVT_CONN_OPEN, no_delay),
            (evt.EVT_REQUESTED, self._on_request),
            (evt.EVT_C_STORE, self.on_store),
        ]
        if self._on_report is not None:
            handlers.append((evt.EVT_N_EVENT_REPORT, self._on_report))
        try:
            self._server = self._listen(address, handlers)
        except OSError as error:
            raise Unavailable(f"cannot listen on {address[0]} port {address[1]}: {error.strerror}") from error
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

    def _listen(self, address: tuple[str, int], handlers: list[Any]) -> Server:
        ae = self._ae()
        server = ae.make_server(address, ssl_context=self._tls, evt_handlers=handlers, server_class=Server)
        ae._servers.append(server)  # as start_server does; shutdown takes it out
        threading.Thread(target=server.serve_forever, name="AcceptorServer", daemon=True).start()
        return server

    def _ae(self) -> AE:
        ae = AE(self._settings.ae_title)
        ae.maximum_pdu_size = MAXIMUM_PDU
        ae.maximum_associations = self._settings.maximum_associations
        ae.network_timeout = self._settings.network_timeout
        ae.require_called_aet = self._settings.require_called_ae_title
        ae.add_supported_context(Verification)
        for uid in STORAGE_CLASSES:
            ae.add_supported_context(uid, ALL_TRANSFER_SYNTAXES)
        if self._on_report is not None:  # the PACS, as SCP, requests the association (PS3.4 J.3.3)
            ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        return ae

    def _on_request(self, event: Any) -> None:
        """Reject who may not send, or what there is no room for, before anything is negotiated."""
        primitive = event.assoc.requestor.primitive
        ae_title, address = str(primitive.calling_ae_title).strip(), event.assoc.requestor.address
        peers = self._settings.peers
        if peers and not any(p.matches(ae_title, address) for p in peers):
            self._reject(event.assoc, CALLING_AE_UNKNOWN, f"{ae_title!r} at {address} is no allowed peer")
        elif (free := self._free_mb()) < self._settings.min_free_mb:
            self._reject(event.assoc, LOCAL_LIMIT_EXCEEDED, f"{free:.0f} MB left on the disk")

    def _reject(self, assoc: Any, answer: tuple[int, int, int], why: str) -> None:
        LOG.warning("association rejected: %s", why)
        assoc.acse.send_reject(*answer)
        assoc.kill()

    def on_store(self, event: Any) -> int | Dataset:
        """Handler of EVT_C_STORE; also for what a C-GET of this node brings."""
        try:
            answer = self._receive(event)
        except Unavailable as error:
            LOG.error("C-STORE refused: %s", error)
            answer = "no room"
        except Exception:  # the boundary to the peer: it must get a status, the log the trace
            LOG.exception("C-STORE failed")
            answer = "bug"
        return _status(answer)

    def _receive(self, event: Any) -> Answer:
        request = event.request
        uids = [str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)]
        if not all(len(uid) <= 64 and VALID_UID.fullmatch(uid) for uid in uids):
            return "invalid uid"
        answer = self._store(
            Received(
                sop_class_uid=uids[0],
                sop_instance_uid=uids[1],
                transfer_syntax_uid=str(event.context.transfer_syntax),
                calling_ae=str(event.assoc.requestor.ae_title).strip(),
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
