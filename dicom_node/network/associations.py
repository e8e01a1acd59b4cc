"""A request that was let in -> an association with threads of its own; which of them are open now."""

from __future__ import annotations

import gc
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from pynetdicom.transport import AddressInformation, AssociationSocket

from ..errors import Unavailable
from .acceptor import Acceptor
from .admission import Load, Memory
from .guest import Guest
from .upper_layer import LOOK_SECONDS

#: Cycles of associations that ended are collected after so many, or so long after the first, seconds.
COLLECT_AFTER, COLLECT_SECONDS = 60, 30.0


class Associations:
    """The associations of a process; what pynetdicom's own takes for its server.

    Parameters
    ----------
    ae : AE
        Of this node: titles, contexts, time-outs.
    handlers : sequence of (event, callable)
        Of pynetdicom.
    load : Load
        Where each takes a seat.
    memory : Memory
        Which all of them share.
    """

    def __init__(
        self, ae: Any, handlers: Sequence[tuple[Any, Callable[..., Any]]], load: Load, memory: Memory
    ) -> None:
        self._ae, self._handlers, self._load, self._memory = ae, handlers, load, memory
        self._contexts = ae.supported_contexts  # copied once, not for every association
        self._lock, self._open, self._ended, self._ended_at = threading.Lock(), set[Acceptor](), 0, 0.0

    @property
    def open(self) -> list[Acceptor]:
        """Those that have not ended."""
        with self._lock:
            return list(self._open)

    def begin(self, guest: Guest) -> None:
        """Hand a connection and its request over to an association, and start its threads.

        Raises
        ------
        Unavailable
            Where no seat, thread or file handle can be had; the connection is closed then.
        """
        seat = self._load.sit(guest.host, guest.caller.calling)
        if seat is None:
            guest.close()
            raise Unavailable("no seat is free")
        assoc = None
        try:
            assoc = self._made(guest, seat)
            with self._lock:
                self._open.add(assoc)
            assoc.start()
        except Exception as error:
            with self._lock:
                self._open -= {assoc} if assoc is not None else set()
            self._load.leave(seat)
            guest.close()
            if isinstance(error, OSError | RuntimeError | MemoryError):
                raise Unavailable(f"no association can be begun ({type(error).__name__})") from error
            raise

    def left(self, assoc: Acceptor) -> None:
        """An association has ended; called in its thread."""
        with self._lock:
            self._open.discard(assoc)
            if not self._ended:
                self._ended_at = time.monotonic()
            self._ended += 1
        self._load.leave(assoc.seat)

    def shutdown_request(self, connection: socket.socket) -> None:
        """Close the connection of an association that has ended; pynetdicom calls this."""
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        connection.close()

    def collect(self, now: float) -> None:
        """Free what ended associations leave, if it is time to: pynetdicom's are cycles."""
        with self._lock:
            due = self._ended >= COLLECT_AFTER or (self._ended and now - self._ended_at > COLLECT_SECONDS)
            self._ended = 0 if due else self._ended
        if due:
            gc.collect()

    def _made(self, guest: Guest, seat: int) -> Acceptor:
        _blocking(guest.connection, self._ae.network_timeout)
        assoc, ae = Acceptor(self._ae, self._memory, self), self._ae
        assoc._server = self  # type: ignore[assignment]  # of a server, only `shutdown_request` is asked
        assoc.seat = seat
        assoc.name = f"AcceptorThread@{datetime.now():%Y%m%d%H%M%S}"
        assoc.set_socket(AssociationSocket(assoc, client_socket=guest.connection))
        acceptor = assoc.acceptor
        acceptor.maximum_length, acceptor.ae_title = ae.maximum_pdu_size, ae.ae_title
        acceptor.address_info = AddressInformation.from_tuple(guest.connection.getsockname())
        assoc.requestor.address_info = AddressInformation.from_tuple(guest.address)
        acceptor.implementation_class_uid = ae.implementation_class_uid
        acceptor.implementation_version_name = ae.implementation_version_name
        acceptor.supported_contexts = self._contexts
        for event, handler in self._handlers:
            assoc.bind(event, handler)
        assoc.dul.begin_with(guest.request)
        return assoc


def _blocking(connection: socket.socket, timeout: float | None) -> None:
    """Let a connection's calls wait: a moment to read, `timeout` seconds to write."""
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(timeout)
        return
    connection.setblocking(True)  # the system's time-outs: with Python's own, every call is two
    for option, seconds in ((socket.SO_RCVTIMEO, LOOK_SECONDS), (socket.SO_SNDTIMEO, timeout)):
        connection.setsockopt(socket.SOL_SOCKET, option, _timeval(seconds or 0.0))


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
