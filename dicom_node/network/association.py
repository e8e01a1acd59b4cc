"""A peer's address -> an association with it; sets pynetdicom's sizes and works around two of its faults."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Any, Protocol

from pynetdicom import AE, evt

from ..dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from ..errors import Rejected, Unavailable
from ..settings.peers import TlsSettings
from .tls import client_context

MAXIMUM_PDU = 128 * 1024


def entity(title: str) -> AE:
    """Return an application entity of this node with its title, name and PDU size."""
    ae = AE(title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION
    ae.maximum_pdu_size = MAXIMUM_PDU
    return ae


def no_delay(event: Any) -> None:
    """Send small PDUs at once (handler of EVT_CONN_OPEN); Nagle's algorithm costs 40 ms an image."""
    connection = event.assoc.dul.socket.socket
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def keep_responses(assoc: Any) -> None:
    """Keep an SCU's reactor thread from taking the responses that `send_c_store` waits for.

    Under load the thread wins that race now and then, and a stored object looks like a time-out (pynetdicom
    3.0.4, issues 351 and 435). Only the reactor asks without blocking, and an SCU has no requests to serve.
    """
    take = assoc.dimse.get_msg

    def get_msg(block: bool = False) -> Any:
        return take(block=True) if block else (None, None)

    assoc.dimse.get_msg = get_msg


class Address(Protocol):
    """The address of a peer: a destination of results, or a PACS that is searched."""

    @property
    def name(self) -> str: ...
    @property
    def ae_title(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def calling_ae_title(self) -> str: ...
    @property
    def timeout(self) -> float: ...
    @property
    def tls(self) -> TlsSettings | None: ...


def associate(
    peer: Address, calling_ae_title: str, contexts: Sequence[Any], serves: bool = False, **options: Any
) -> Any:
    """Request an association.

    Parameters
    ----------
    calling_ae_title : str
        AE title of this node, used where the peer's settings name none.
    contexts : sequence of PresentationContext
    serves : bool
        True where the peer will make requests on this association too (C-STORE of a C-GET, N-EVENT-REPORT).
    **options
        Further arguments of pynetdicom's ``AE.associate``.

    Raises
    ------
    Unavailable
        Where the association is not established, or this node's certificates cannot be read now.
    """
    ae = entity(peer.calling_ae_title or calling_ae_title)
    ae.connection_timeout = ae.acse_timeout = peer.timeout
    ae.dimse_timeout = ae.network_timeout = peer.timeout
    handlers = [(evt.EVT_CONN_OPEN, no_delay), *options.pop("evt_handlers", [])]
    if peer.tls is not None:
        try:
            options["tls_args"] = client_context(peer.tls), peer.host
        except Rejected as error:
            raise Unavailable(f"{peer.name}: {error}") from error
    assoc = ae.associate(
        peer.host, peer.port, list(contexts), peer.ae_title, evt_handlers=handlers, **options
    )
    if not assoc.is_established:
        raise Unavailable(_why_not(assoc, peer))
    if not serves:
        keep_responses(assoc)
    return assoc


def _why_not(assoc: Any, peer: Address) -> str:
    """Return why an association was not established."""
    where = f"{peer.name} ({peer.ae_title} at {peer.host}:{peer.port})"
    if assoc.is_rejected:
        return f"{where} rejects the association: {assoc.acceptor.primitive.reason_str}"
    if problem := _tls_problem(peer):
        return f"{where}: no TLS: {problem}"
    return f"{where} cannot be reached"


def _tls_problem(peer: Address) -> str:
    """Return why a TLS handshake with the peer fails, which pynetdicom does not report; "" for any other cause."""
    if peer.tls is None:
        return ""
    try:
        with socket.create_connection((peer.host, peer.port), peer.timeout) as connection:
            client_context(peer.tls).wrap_socket(connection, server_hostname=peer.host).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        return error.reason or "the handshake failed"
    except OSError:
        return ""
    return "the peer does not accept this node's certificate"
