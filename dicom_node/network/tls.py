"""Certificates -> TLS contexts of both sides (PS3.15 B.9, B.12), and a handshake within a deadline."""

from __future__ import annotations

import select
import socket
import ssl
import time

from ..errors import Rejected
from ..settings.peers import TlsSettings

#: A handshake that takes longer is given up, seconds.
HANDSHAKE_SECONDS = 10.0
OLDEST = ssl.TLSVersion.TLSv1_2
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
    context.minimum_version = OLDEST
    context.set_ciphers(CIPHERS)
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(settings.certificate, settings.key, password="")
        context.load_verify_locations(settings.authorities)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or error
        raise Rejected(f"the TLS certificate, key or authorities cannot be used: {why}") from error
    return context


def shake_hands(context: ssl.SSLContext, connection: socket.socket) -> ssl.SSLSocket:
    """The server's side of a handshake, which must be over in `HANDSHAKE_SECONDS`, however often bytes come.

    Raises
    ------
    OSError
        Where it fails, or takes longer.
    """
    end = time.monotonic() + HANDSHAKE_SECONDS
    wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    wrapped.setblocking(False)
    try:
        while not _shaken(wrapped, end):
            if time.monotonic() >= end:
                raise TimeoutError(f"not over after {HANDSHAKE_SECONDS:.0f} s")
    except OSError:
        wrapped.close()
        raise
    return wrapped


def _shaken(wrapped: ssl.SSLSocket, end: float) -> bool:
    """Go on with a handshake as far as bytes are there; False where more are needed, and waited for."""
    poll = select.poll()
    try:
        wrapped.do_handshake()
    except ssl.SSLWantReadError:
        poll.register(wrapped, select.POLLIN)
    except ssl.SSLWantWriteError:
        poll.register(wrapped, select.POLLOUT)
    else:
        return True
    poll.poll(max(0.0, end - time.monotonic()) * 1000)
    return False
