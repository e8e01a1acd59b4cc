"""Audit messages -> a repository, as RFC 5424 over TCP (RFC 6587) or TLS (RFC 5425), or lines of a file."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from ..errors import Rejected, Unavailable
from ..network.tls import client_context
from ..settings.config import AuditSettings
from ..store.durable import FILE_MODE

#: Facility 10, security messages; severity 5, normal but significant, or 4, warning (PS3.15 A.6).
NOTICE, WARNING = 85, 84
#: Time limit of a repository's connection and answer (s).
TIMEOUT = 3.0


def line(message: bytes, priority: int, at: float) -> str:
    """Return a syslog message without a line break (RFC 5424 6); `message` is XML in ASCII.

    Examples
    --------
    >>> line(b"<AuditMessage/>", NOTICE, 0.0).split(" ")[:2]
    ['<85>1', '1970-01-01T00:00:00.000Z']
    """
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = socket.gethostname() or "-"
    return f"<{priority}>1 {when} {host} dicom-node {os.getpid()} DICOM+RFC3881 - {message.decode('ascii')}"


def send(settings: AuditSettings, lines: Sequence[str]) -> None:
    """Send messages in their order.

    TCP does not confirm single messages. To know at least that the repository's machine took every byte, this side
    closes and waits until the other has closed too.

    Raises
    ------
    Unavailable
        Where the messages cannot be sent; nobody knows then which of them arrived.
    """
    try:
        if settings.file is not None:
            _append(settings.file, lines)
        else:
            _transmit(settings, lines)
    except (OSError, Rejected) as error:
        where = settings.file or f"{settings.host} port {settings.port}"
        raise Unavailable(f"the audit repository {where} cannot be reached: {error}") from error


def _append(path: Path, lines: Sequence[str]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, FILE_MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii", closefd=False) as file:
            file.writelines(f"{one}\n" for one in lines)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _transmit(settings: AuditSettings, lines: Sequence[str]) -> None:
    """Send lines framed by octet counting (RFC 6587 3.4.1, RFC 5425 4.3)."""
    frames = b"".join(b"%d %s" % (len(one), one.encode("ascii")) for one in lines)
    connection: socket.socket = socket.create_connection((settings.host, settings.port), TIMEOUT)
    if settings.tls is not None:
        connection = client_context(settings.tls).wrap_socket(connection, server_hostname=settings.host)
    with closing(connection):
        connection.sendall(frames)
        # a repository that keeps its side open has accepted everything, as far as can be known
        with suppress(TimeoutError, ssl.SSLEOFError):
            _close(connection)


def _close(connection: socket.socket) -> None:
    if isinstance(connection, ssl.SSLSocket):
        connection.unwrap()
        return
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass
