"""A connection that was just accepted -> its complete A-ASSOCIATE-RQ, read as its bytes arrive and within limits."""

from __future__ import annotations

import select
import socket
import ssl
import struct

from ..errors import Rejected
from .door import Caller
from .tls import certificate_names

#: Longest A-ASSOCIATE-RQ that is read (bytes); one with 128 contexts of 38 transfer syntaxes has 150 KB.
REQUEST_LIMIT = 1 << 18
ASSOCIATE_RQ = 1
#: Bytes up to the end of the AE titles, and up to the first variable item (PS3.8 9.3.2).
TITLES, FIXED = 42, 74
CALLED, CALLING = slice(10, 26), slice(26, 42)
#: Bytes that are read and discarded at one time from a connection that was already answered.
PIECE = 1 << 16


class Guest:
    """A connection whose request is not complete yet; no method of it blocks.

    Parameters
    ----------
    connection : socket.socket
        Set to non-blocking here.
    address : tuple
        Address of its other end, as ``accept`` returns it.
    deadline : float
        Time of ``time.monotonic`` at which it is closed, even if bytes still arrive (the ARTIM timer, PS3.8 9.1.5).
    context : ssl.SSLContext, optional
        Where it is given, a TLS handshake comes first.
    """

    def __init__(
        self,
        connection: socket.socket,
        address: tuple[str, int],
        deadline: float,
        context: ssl.SSLContext | None,
    ) -> None:
        connection.setblocking(False)
        self.connection, self.address, self.deadline = connection, address, deadline
        self.shaking, self.leaving, self.checked = context is not None, False, False
        if context is not None:
            self.connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.request = bytearray()
        self._caller: Caller | None = None

    @property
    def host(self) -> str:
        """Return the IP address of the other end."""
        return self.address[0]

    @property
    def caller(self) -> Caller:
        """Return the requestor; valid once `titled` is True."""
        if self._caller is None:
            called, calling = (
                bytes(self.request[at]).decode("latin-1").strip(" ") for at in (CALLED, CALLING)
            )
            names: frozenset[str] = frozenset()
            if isinstance(self.connection, ssl.SSLSocket):
                names = certificate_names(self.connection.getpeercert())
            self._caller = Caller(calling, called, self.host, names)
        return self._caller

    @property
    def titled(self) -> bool:
        """Return whether the AE titles have arrived."""
        return len(self.request) >= TITLES

    @property
    def whole(self) -> bool:
        """Return whether the whole request has arrived."""
        return len(self.request) >= FIXED and len(self.request) == self._length

    def go_on(self) -> int:
        """Read the bytes that have arrived, but stop after the AE titles in the call that reads them.

        Returns
        -------
        int
            Events of ``select.poll`` to wait for; 0 where the caller must decide, since it is `titled` or `whole` now.

        Raises
        ------
        OSError
            Where the TLS handshake or the connection fails.
        EOFError
            Where the other side has closed the connection.
        Rejected
            Where the bytes are not an A-ASSOCIATE-RQ.
        """
        try:
            if self.shaking and isinstance(self.connection, ssl.SSLSocket):
                self.connection.do_handshake()
                self.shaking = False
                return 0
            if self.leaving:
                self._read(PIECE)
                return select.POLLIN
            return self._read_request()
        except (BlockingIOError, ssl.SSLWantReadError):
            return select.POLLIN
        except ssl.SSLWantWriteError:
            return select.POLLOUT

    def leave(self, answer: bytes, deadline: float) -> None:
        """Send a last PDU, then discard what still arrives until the other side closes or the deadline passes.

        Closing a socket with unread bytes resets its connection, so that the answer may be lost (PS3.8, Sta13).

        Raises
        ------
        OSError
            Where the PDU cannot be sent at once.
        """
        self.leaving, self.deadline, self.request = True, deadline, bytearray()
        self.connection.send(answer)
        if not isinstance(self.connection, ssl.SSLSocket):
            self.connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _read_request(self) -> int:
        while not self.whole:
            size = len(self.request)
            if size < TITLES and self.request[:1] not in (b"", bytes([ASSOCIATE_RQ])):
                raise Rejected(f"the first PDU is of type {self.request[0]}, not an A-ASSOCIATE-RQ")
            if size >= 6 and not FIXED <= self._length <= REQUEST_LIMIT:
                raise Rejected(f"an A-ASSOCIATE-RQ of {self._length} bytes, the limit is {REQUEST_LIMIT}")
            until = 6 if size < 6 else TITLES if size < TITLES else self._length
            self.request += self._read(until - size)
            if size < TITLES <= len(self.request):
                return 0
        return 0

    @property
    def _length(self) -> int:
        return 6 + int(struct.unpack_from(">L", self.request, 2)[0])

    def _read(self, size: int) -> bytes:
        if not (piece := self.connection.recv(size)):
            raise EOFError
        return piece
