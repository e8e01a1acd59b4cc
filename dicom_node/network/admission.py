"""Counts of what is in use, and by whom: connections, associations and bytes, over all processes that receive."""

from __future__ import annotations

import ipaddress
import threading
from dataclasses import dataclass
from hashlib import blake2b
from multiprocessing import get_context
from typing import Any


@dataclass(frozen=True)
class Held:
    """Numbers of open associations of all processes: in total, of one address, and of one AE title."""

    associations: int
    of_address: int
    of_title: int


class Load:
    """Waiting connections and open associations of every process that shares a socket.

    Each process writes its own numbers and reads those of all, without a lock, which a killed process might never
    release; in a race, each process may therefore admit one association too many. A process has one number for its
    waiting connections and two for each seat of an association: marks of its address and AE title, 0 for a free seat.

    Parameters
    ----------
    seats : int
        Most associations of all processes together; one process may have all of them.
    shared : sequence of int
        Memory that `Load.shared` returned; without it, only this process is counted.
    own : int
        Index of this process.
    """

    def __init__(self, seats: int, shared: Any = None, own: int = 0) -> None:
        self._width, self._lock = 1 + 2 * seats, threading.Lock()
        self._numbers: Any = [0] * self._width if shared is None else shared
        self._at = self._width * own
        self.clear(self._numbers, seats, own)

    @staticmethod
    def shared(seats: int, processes: int) -> Any:
        """Return shared memory for the numbers of `processes` processes, which get it when they are spawned."""
        return get_context("spawn").RawArray("Q", (1 + 2 * seats) * processes)

    @staticmethod
    def clear(shared: Any, seats: int, own: int) -> None:
        """Clear the numbers of a process that has ended or is about to begin."""
        width = 1 + 2 * seats
        shared[width * own : width * (own + 1)] = [0] * width

    @property
    def ahead(self) -> bool:
        """Return whether another process has fewer connections open than this one."""
        numbers, width = self._numbers[:], self._width
        open_ = [
            numbers[at] + sum(map(bool, numbers[at + 1 : at + width : 2]))
            for at in range(0, len(numbers), width)
        ]
        return bool(open_[self._at // width] > min(open_))

    def wait(self, connections: int) -> None:
        """Record how many connections of this process wait to become associations."""
        self._numbers[self._at] = connections

    def held(self, address: str, title: str) -> Held:
        """Count the associations that are open now."""
        numbers, width = self._numbers[:], self._width
        addresses = [n for at in range(0, len(numbers), width) for n in numbers[at + 1 : at + width : 2] if n]
        titles = [n for at in range(0, len(numbers), width) for n in numbers[at + 2 : at + width : 2] if n]
        return Held(len(addresses), addresses.count(_mark(_source(address))), titles.count(_mark(title)))

    def sit(self, address: str, title: str) -> int | None:
        """Take a seat of this process for an association and return its number; None where no seat is free."""
        with self._lock:
            for seat in range(self._at + 1, self._at + self._width, 2):
                if not self._numbers[seat]:
                    self._numbers[seat] = _mark(_source(address))
                    self._numbers[seat + 1] = _mark(title)
                    return seat
        return None

    def leave(self, seat: int) -> None:
        """Free a seat."""
        with self._lock:
            self._numbers[seat + 1] = 0
            self._numbers[seat] = 0


def _mark(text: str) -> int:
    """Return a number for a text that is the same in every process and never 0."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") | 1


def _source(address: str) -> str:
    """Return the key by which an address is counted: for IPv6 its /64 network, which one host may use whole (RFC 4291).

    Examples
    --------
    >>> _source("2001:db8::1") == _source("2001:db8::2"), _source("::ffff:10.0.0.1"), _source("10.0.0.1")
    (True, '10.0.0.1', '10.0.0.1')
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)


class Memory:
    """A budget of bytes for the messages that a process holds, shared by its associations."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._lock = limit, 0, threading.Lock()

    def take(self, size: int) -> bool:
        """Reserve `size` more bytes; where they do not fit, reserve nothing and return False."""
        with self._lock:
            if self._held + size > self._limit:
                return False
            self._held += size
            return True

    def give(self, size: int) -> None:
        """Release `size` bytes that were reserved."""
        with self._lock:
            self._held -= size
