"""A connection that was just accepted -> its A-ASSOCIATE-RQ, whole, read as its bytes come and within limits."""

from __future__ import annotations

import select
import socket
import ssl
import struct

from ..errors import Rejected
from .door import Caller
from .tls import certificate_names

#: No A-ASSOCIATE-RQ may be longer: 128 contexts of 38 transfer syntaxes have 150 KB.
REQUEST_LIMIT = 1 << 18
ASSOCIATE_RQ = 1
#: Bytes until the AE titles are there (PS3.8 9.3.2): PDU header, version, titles; and of the fields before contexts.
TITLES, FIXED = 42, 74
CALLED, CALLING = slice(10, 26), slice(26, 42)
#: Read and thrown away at one time, of those that were answered already.
PIECE = 1 << 16


class Guest:
    """A connection until its request is whole; never waits.

    Parameters
    ----------
    connection : socket.socket
        Set not to block here.
    address : tuple
        Of its other end, as ``accept`` returns it.
    deadline : float
        By ``time.monotonic``: when it is given up, however often a byte comes (the ARTIM timer, PS3.8 9.1.5).
    context : ssl.SSLContext, optional
        A TLS handshake comes first.
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
        """Its IP address."""
        return self.address[0]

    @property
    def caller(self) -> Caller:
        """Who requests, once `titled`."""
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
        """Whether the AE titles have come."""
        return len(self.request) >= TITLES

    @property
    def whole(self) -> bool:
        """Whether the request has come."""
        return len(self.request) >= FIXED and len(self.request) == self._length

    def go_on(self) -> int:
        """Go on as far as bytes are there, but not past the AE titles in the call that reads them.

        Returns
        -------
        int
            Events of ``select.poll`` to wait for; 0 where the caller is to decide: `titled` or `whole`.

        Raises
        ------
        OSError
            Where the TLS handshake or the connection fails.
        EOFError
            Where the other side has closed.
        Rejected
            Where it is no A-ASSOCIATE-RQ.
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
        """Send a last PDU; what still comes is thrown away until the other side closes, or the deadline.

        A socket that is closed with bytes unread resets its connection, and the answer may be lost (PS3.8, Sta13).

        Raises
        ------
        OSError
            Where it cannot be sent at once.
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
