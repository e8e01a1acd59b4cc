"""Certificates -> TLS contexts of both sides (PS3.15 B.9, B.12), and a server no silent client can block."""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Any

from pynetdicom.transport import ThreadedAssociationServer

from .config import TlsSettings
from .errors import Rejected

LOG = logging.getLogger(__name__)

#: A handshake that takes longer is given up, seconds.
HANDSHAKE_SECONDS = 10.0
#: TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 4.2). Those of TLS 1.3 all have both.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """A context that wants a certificate of every client.

    Raises
    ------
    Rejected
        Where a file cannot be used.
    """
    return _context(ssl.PROTOCOL_TLS_SERVER, settings)


def client_context(settings: TlsSettings) -> ssl.SSLContext:
    """A context that shows its certificate and checks the server's, its host name included.

    Raises
    ------
    Rejected
        Where a file cannot be used.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, settings)


def _context(protocol: int, settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(settings.certificate, settings.key, password="")
        context.load_verify_locations(settings.authorities)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or error
        raise Rejected(f"the TLS certificate, key or authorities cannot be used: {why}") from error
    return context


class Server(ThreadedAssociationServer):
    """pynetdicom's server, with the handshake in the connection's own thread and a limit to its time.

    pynetdicom 3.0.4 shakes hands within ``accept``: one client that connects and says nothing stops all others.
    """

    daemon_threads = True  # a handshake under way must not hold up the end of the node

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept, no more."""
        assert self.socket is not None
        return self.socket.accept()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In a thread of the connection's own: shake hands, then associate."""
        if self.ssl_context is not None:
            request.settimeout(HANDSHAKE_SECONDS)
            try:
                wrapped = self.ssl_context.wrap_socket(request, server_side=True)
            except OSError as error:  # ssl.SSLError and time-outs are OSErrors
                LOG.warning("TLS handshake with %s failed: %s", client_address[0], error)
                self.shutdown_request(request)
                return
            wrapped.settimeout(self.ae.network_timeout)
            request = wrapped
        super().finish_request(request, client_address)
