"""A connection -> the PDUs of DIMSE messages (PS3.8): pynetdicom's upper layer, woken by events, within limits.

pynetdicom 3.0.4 polls: both threads of an association sleep 1 ms between looks, and a PDU is read in pieces of 4 KB
and copied four times. Here they wait until there is something to do, and a P-DATA-TF PDU is read into one buffer.
Its state machine (PS3.8 9.2), ACSE and DIMSE services stay as they are.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from ..printable import printable
from .admission import Memory

LOG = logging.getLogger(__name__)

#: Longest PDU that is read (bytes); we announce 128 KB for P-DATA-TF, and an A-ASSOCIATE-RQ of 128 contexts fits.
PDU_LIMIT = 1 << 20
PDU_TYPES = range(1, 8)
#: A-ABORT of the service provider, reason not specified (PS3.8 9.3.8).
ABORT = bytes.fromhex("07000000000400000200")
P_DATA_TF = 4
#: Slowest rate at which a message may arrive, over every period of the network time-out (bytes/s).
SLOWEST = 4096
#: Least share of the bytes held of a message that must arrive in that period: a larger message must arrive faster.
LEAST_SHARE = 1 / 30
#: Longest wait before the timers are checked (s).
LOOK_SECONDS = 0.5


class Bell:
    """Wakes the thread that polls it."""

    def __init__(self) -> None:
        self.descriptor, self._lock = os.eventfd(0, os.EFD_NONBLOCK), threading.Lock()

    def ring(self) -> None:
        with self._lock:
            if self.descriptor >= 0:
                os.eventfd_write(self.descriptor, 1)

    def still(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def close(self) -> None:
        with self._lock:
            os.close(self.descriptor)
            self.descriptor = -1


class Ringing(queue.Queue[Any]):
    """A queue that rings a bell whenever something is put into it."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__()
        self._ring = ring

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._ring()


class Messages(Ringing):
    """The queue of messages that wait to be served."""

    def __init__(self, dul: UpperLayer, ring: Callable[[], None]) -> None:
        super().__init__(ring)
        self._dul = dul

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self._dul.whole()
        super().put(item, block, timeout)


class _Data:
    """P-DATA-TF PDUs (PS3.8 9.3.5) of one message; their values are views of the buffers they were read into."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.size = 0
        self.goes_on = False  # in the middle of a data set (PS3.8 E.2)

    def take(self, body: bytearray) -> int:
        """Add the values of a PDU, given with its header, and return their size (bytes).

        Raises
        ------
        ValueError
            Where the length of a value does not fit the PDU.
        """
        rest, size = memoryview(body)[6:], 0
        while rest:
            if len(rest) < 6 or not 2 <= (length := int.from_bytes(rest[:4], "big")) <= len(rest) - 4:
                raise ValueError("a presentation data value does not fit its PDU")
            self.values.append((rest[4], rest[5 : 4 + length]))
            self.goes_on = not rest[5] & 3
            size += length - 1
            rest = rest[4 + length :]
        self.size += size
        return size

    def to_primitive(self) -> P_DATA:
        """Return the values as a P-DATA primitive, as pynetdicom's own PDUs do."""
        primitive = P_DATA()
        primitive._presentation_data_value_list = self.values
        return primitive


class UpperLayer(DULServiceProvider):
    """The DICOM upper layer of one accepted connection."""

    def __init__(self, assoc: Association, memory: Memory, wake: Callable[[], None]) -> None:
        super().__init__(assoc)
        self._wake = wake
        self.daemon = True
        self._kill_thread: bool = False
        self._memory, self._bell = memory, Bell()
        self.to_provider_queue = Ringing(self._bell.ring)
        self._size = 0  # bytes of the message that is arriving
        self._window, self._before = (
            0.0,
            0,
        )  # start of the period in which enough of it must arrive; bytes that came earlier
        self._request = bytearray()
        self._waiting: deque[int] = deque()  # sizes of complete messages that were not served yet

    def begin_with(self, request: bytearray) -> None:
        """Take an A-ASSOCIATE-RQ that the server has read, given with its header, as the first PDU."""
        self._request = request

    def whole(self) -> None:
        """Take note that the arriving message is complete and waits to be served."""
        self._waiting.append(self._size)
        self._size = 0

    def served(self) -> None:
        """Take note that a message was served: release its memory, and let the next be read."""
        if self._waiting:
            self._memory.give(self._waiting.popleft())
        self._idle_timer.restart()
        self._bell.ring()

    def kill_dul(self) -> None:
        """End the thread."""
        super().kill_dul()
        self._bell.ring()

    def stop_dul(self) -> bool:
        """End the thread if the connection is closed (Sta1)."""
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        self.join()
        return True

    def run_reactor(self) -> None:
        """Process events, or wait for one, until the connection ends."""
        self._idle_timer.start()
        self.assoc._dul_ready.set()
        try:
            self._put(self._request)
            self._request = bytearray()
            while not self._kill_thread:
                self._step()
        except Exception as error:  # noqa: BLE001  the boundary to hostile bytes: any failure ends this connection
            LOG.warning("association aborted: %s (%s)", printable(str(error)), type(error).__name__)
            self.assoc.is_aborted, self.assoc.is_established = True, False
            self.assoc._kill = True
            self._kill_thread = True
            with suppress(OSError, EOFError):
                self._connected().sendall(ABORT)
        finally:
            self._memory.give(self._size + sum(self._waiting))
            self._bell.close()
            # the association may still wait for its request, which will not come: None is its time-out
            cast(Any, self.to_user_queue).put(None)
            self._wake()

    def _step(self) -> None:
        if self.artim_timer.expired:
            self.event_queue.put("Evt18")
        if self.event_queue.empty() and not self._process_recv_primitive():
            if self._poll():
                self._read_pdu_data()
                self._idle_timer.restart()
            elif self.state_machine.current_state == "Sta13" and self.socket is not None:
                self.socket.close()
        if not self.event_queue.empty():  # no other thread takes from it
            self.state_machine.do_action(self.event_queue.get())
            if self._size and self.assoc.dimse.message is None:  # a C-CANCEL, which is never queued
                self._memory.give(self._size)
                self._size = 0

    def _poll(self) -> bool:
        """Wait briefly for bytes or the bell, and return whether there are bytes that may be read."""
        connection, poll = None if self.socket is None else self.socket.socket, select.poll()
        reads = False
        # the next message stays in the socket until the one before is being served
        if connection is not None and not self.assoc.dimse.msg_queue.queue:
            reads = True
            if getattr(connection, "pending", int)():  # TLS has already decrypted some
                return True
            poll.register(connection, select.POLLIN)
        poll.register(self._bell.descriptor, select.POLLIN)
        closing = self.state_machine.current_state == "Sta13"
        ready = [descriptor for descriptor, _ in poll.poll(0 if closing else LOOK_SECONDS * 1000)]
        if self._bell.descriptor in ready:
            self._bell.still()
            ready.remove(self._bell.descriptor)
        return reads and bool(ready)

    def _read_pdu_data(self) -> None:
        """Read one PDU, or the part of a data set that has arrived, and queue its event for the state machine."""
        deadline = time.monotonic() + (self.network_timeout or 60.0)
        try:
            kind, body = self._read_pdu(deadline)
            if kind == P_DATA_TF:
                pdu: Any = _Data()
                self._count(pdu.take(body))
                # one event for many PDUs, since dcmtk sends PDUs of 16 KB
                while kind == P_DATA_TF and pdu.goes_on and pdu.size < PDU_LIMIT and self._more():
                    kind, body = self._read_pdu(deadline)
                    if kind == P_DATA_TF:
                        self._count(pdu.take(body))
        except (OSError, EOFError):
            self.event_queue.put("Evt17")
        except ValueError as error:
            self._invalid(error)
        else:
            if kind == P_DATA_TF:
                self._recv_pdu.put(pdu)
                self.event_queue.put("Evt10")
            else:  # the peer ended in the middle of a data set, whose first part is useless
                self._put(body)

    def _put(self, body: bytearray) -> None:
        """Decode a PDU other than P-DATA-TF, given with its header, and queue its event for the state machine."""
        try:
            pdu, event = self._decode_pdu(body)
        except Exception as error:  # noqa: BLE001  the boundary to hostile bytes
            self._invalid(error)
        else:
            self._recv_pdu.put(pdu)
            self.event_queue.put(event)

    def _invalid(self, error: Exception) -> None:
        LOG.warning("invalid PDU: %s (%s)", printable(str(error)), type(error).__name__)
        self.event_queue.put("Evt19")

    def _connected(self) -> socket.socket:
        """Return the connection.

        Raises
        ------
        EOFError
            Where it is already closed.
        """
        if self.socket is None or self.socket.socket is None:
            raise EOFError
        return self.socket.socket

    def _more(self) -> bool:
        """Return whether bytes wait to be read."""
        connection = self._connected()
        if isinstance(connection, ssl.SSLSocket):
            return connection.pending() > 0
        try:
            return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False

    def _read_pdu(self, deadline: float) -> tuple[int, bytearray]:
        """Read a PDU and return its type and its bytes, including the header (PS3.8 9.3.1)."""
        head = bytearray(6)
        self._fill(memoryview(head), deadline)
        kind, length = head[0], int.from_bytes(head[2:], "big")
        if kind not in PDU_TYPES or length > PDU_LIMIT:
            raise ValueError(f"type {kind}, {length} bytes")
        body = bytearray(6 + length)
        body[:6] = head
        self._fill(memoryview(body)[6:], deadline)
        return kind, body

    def _fill(self, buffer: memoryview, deadline: float) -> None:
        connection = self._connected()
        tls = isinstance(connection, ssl.SSLSocket)
        while buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if tls:
                connection.settimeout(left)
                count = connection.recv_into(buffer)
                connection.settimeout(self.network_timeout)
            else:  # read it in one call, since every call lets other threads take over
                try:
                    count = connection.recv_into(buffer, len(buffer), socket.MSG_WAITALL)
                except BlockingIOError:  # nothing came for `LOOK_SECONDS`
                    continue
            if not count:
                raise EOFError
            buffer = buffer[count:]

    def _count(self, size: int) -> None:
        """Count bytes that arrived, and refuse a message that is too large or too slow.

        Enough bytes must arrive in every period of `network_timeout`. Otherwise a peer could send quickly at first and
        then keep the memory with one byte now and then.
        """
        now, seconds = time.monotonic(), self.network_timeout or 60.0
        if not self._memory.take(size):
            raise ValueError("no memory left for a message of this size")
        if not self._size:
            self._window, self._before = now, 0
        self._size += size
        if now - self._window > seconds:
            if self._size - self._before < max(seconds * SLOWEST, self._before * LEAST_SHARE):
                raise ValueError("the message comes too slowly")
            self._window, self._before = now, self._size
