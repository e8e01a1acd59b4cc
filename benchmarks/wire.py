"""A TCP proxy between two DICOM peers: passes on, records, or does what a bad network or a sick PACS does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

#: A-ASSOCIATE-RJ: transient, presentation layer, local limit exceeded (PS3.8 9.3.4).
REJECTION = bytes.fromhex("03000000000400020302")
PIECE = 16384


@dataclass(frozen=True)
class Fault:
    """What happens to one connection.

    Parameters
    ----------
    rejects : bool
        The association is rejected.
    delay : float
        Seconds before each piece of the requestor's bytes is passed on.
    cut_after : int, optional
        Bytes of the requestor after which both sides are reset.
    loses_responses : bool
        The requestor's bytes arrive, all that is answered after the first PDU (A-ASSOCIATE-AC) does not.
    """

    rejects: bool = False
    delay: float = 0.0
    cut_after: int | None = None
    loses_responses: bool = False


@dataclass
class Recording:
    """The bytes of one connection, in turns of the requestor and the acceptor."""

    turns: list[tuple[str, bytearray]] = field(default_factory=list)

    def add(self, who: str, piece: bytes) -> None:
        """Append to the turn of `who`, or begin one."""
        if not self.turns or self.turns[-1][0] != who:
            self.turns.append((who, bytearray()))
        self.turns[-1][1].extend(piece)

    @property
    def requests(self) -> list[list[bytes]]:
        """The requestor's turns, as PDUs."""
        return [pdus(bytes(data)) for who, data in self.turns if who == "requestor"]


def pdus(data: bytes) -> list[bytes]:
    """PDUs one after the other (PS3.8 9.3.1) -> each."""
    found = []
    while data:
        end = 6 + int.from_bytes(data[2:6], "big")
        found.append(data[:end])
        data = data[end:]
    return found


class Proxy:
    """Listens on a port of its own and passes every connection on to another.

    Parameters
    ----------
    target : int
        Port on loopback.
    fault : callable
        Number of a connection, from 0 -> what happens to it.
    """

    def __init__(self, target: int, fault: Callable[[int], Fault] = lambda _: Fault()) -> None:
        self._target, self.fault = target, fault
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listening.getsockname()[1])
        self.recordings: list[Recording] = []
        self.injected = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no longer: connections are refused."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                fault = self.fault(len(self.recordings))
                self.injected += fault != Fault()
                self.recordings.append(recording := Recording())
                threading.Thread(target=self._serve, args=(near, fault, recording), daemon=True).start()

    def _serve(self, near: socket.socket, fault: Fault, recording: Recording) -> None:
        with near, suppress(OSError):
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if fault.rejects:
                near.recv(PIECE)
                near.sendall(REJECTION)
                near.recv(PIECE)
                return
            with socket.create_connection(("127.0.0.1", self._target)) as far:
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answers = threading.Thread(target=self._answer, args=(far, near, fault, recording))
                answers.start()
                self._request(near, far, fault, recording)
                with suppress(OSError):
                    far.shutdown(socket.SHUT_WR)
                answers.join()

    def _request(self, near: socket.socket, far: socket.socket, fault: Fault, recording: Recording) -> None:
        passed = 0
        with suppress(OSError):
            while piece := near.recv(PIECE):
                time.sleep(fault.delay)
                if fault.cut_after is not None and passed + len(piece) > fault.cut_after:
                    far.sendall(piece[: fault.cut_after - passed])
                    for side in (near, far):
                        side.shutdown(socket.SHUT_RDWR)
                    return
                recording.add("requestor", piece)
                far.sendall(piece)
                passed += len(piece)

    def _answer(self, far: socket.socket, near: socket.socket, fault: Fault, recording: Recording) -> None:
        answered = False
        with suppress(OSError):
            while piece := far.recv(PIECE):
                recording.add("acceptor", piece)
                if not (fault.loses_responses and answered):
                    near.sendall(piece)
                answered = True
            near.shutdown(socket.SHUT_WR)
