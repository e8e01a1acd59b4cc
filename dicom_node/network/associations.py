"""An admitted request -> an association with threads of its own; the list of those that are open."""

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

#: Ended associations are garbage-collected after this many have ended, or this long after the first (s).
COLLECT_AFTER, COLLECT_SECONDS = 60, 30.0


class Associations:
    """The associations of a process; pynetdicom's associations take this object for their server.

    Parameters
    ----------
    ae : AE
        Application entity of this node: titles, contexts, time-outs.
    handlers : sequence of (event, callable)
        Event handlers of pynetdicom.
    load : Load
        Counts in which each association takes a seat.
    memory : Memory
        Budget that all of them share.
    ended : callable, optional
        Called with each association that has ended, in its thread.
    """

    def __init__(
        self,
        ae: Any,
        handlers: Sequence[tuple[Any, Callable[..., Any]]],
        load: Load,
        memory: Memory,
        ended: Callable[[Acceptor], None] = lambda assoc: None,
    ) -> None:
        self._tell = ended
        self._ae, self._handlers, self._load, self._memory = ae, handlers, load, memory
        self._contexts = ae.supported_contexts  # copied once, not for every association
        self._lock, self._open, self._ended, self._ended_at = threading.Lock(), set[Acceptor](), 0, 0.0

    @property
    def open(self) -> list[Acceptor]:
        """Return the associations that have not ended."""
        with self._lock:
            return list(self._open)

    def begin(self, guest: Guest) -> None:
        """Make an association of a connection and its request, and start its threads.

        Raises
        ------
        Unavailable
            Where no seat, thread or file handle is free; the connection is closed then.
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
        """Take note that an association has ended; called in its thread."""
        with self._lock:
            self._open.discard(assoc)
            if not self._ended:
                self._ended_at = time.monotonic()
            self._ended += 1
        self._load.leave(assoc.seat)
        self._tell(assoc)

    def shutdown_request(self, connection: socket.socket) -> None:
        """Close the connection of an association that has ended; pynetdicom calls this."""
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        connection.close()

    def collect(self, now: float) -> None:
        """Free the memory of ended associations if it is time; pynetdicom's objects refer to each other in cycles."""
        with self._lock:
            due = self._ended >= COLLECT_AFTER or (self._ended and now - self._ended_at > COLLECT_SECONDS)
            self._ended = 0 if due else self._ended
        if due:
            gc.collect()

    def _made(self, guest: Guest, seat: int) -> Acceptor:
        _blocking(guest.connection, self._ae.network_timeout)
        assoc, ae = Acceptor(self._ae, self._memory, self), self._ae
        assoc._server = self  # type: ignore[assignment]  # it calls only `shutdown_request` of a server
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
    """Make a connection's calls block: for a moment to read, for `timeout` seconds to write."""
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(timeout)
        return
    connection.setblocking(True)  # use the system's time-outs: Python's own need two system calls each time
    for option, seconds in ((socket.SO_RCVTIMEO, LOOK_SECONDS), (socket.SO_SNDTIMEO, timeout)):
        connection.setsockopt(socket.SOL_SOCKET, option, _timeval(seconds or 0.0))


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
