"""How much is in use by whom: connections, associations and bytes that are held, of all processes that receive."""

from __future__ import annotations

import ipaddress
import threading
from dataclasses import dataclass
from hashlib import blake2b
from multiprocessing import get_context
from typing import Any


@dataclass(frozen=True)
class Held:
    """Associations of all processes: in all, of one address, and of one AE title."""

    associations: int
    of_address: int
    of_title: int


class Load:
    """Connections that wait and associations that are open now, of every process that shares a socket.

    Each process writes its own numbers and reads all, without a lock that a killed process could keep: in a race,
    every further process may let in one too many. A process has one number for the connections that wait, and two
    for each seat an association may take: marks of its address and of its AE title, 0 where it is free.

    Parameters
    ----------
    seats : int
        Associations that all processes may have together; one process may have all of them.
    shared : sequence of int
        What `Load.shared` returned; without it, of this process alone.
    own : int
        Which process this is.
    """

    def __init__(self, seats: int, shared: Any = None, own: int = 0) -> None:
        self._width, self._lock = 1 + 2 * seats, threading.Lock()
        self._numbers: Any = [0] * self._width if shared is None else shared
        self._at = self._width * own
        self.clear(self._numbers, seats, own)

    @staticmethod
    def shared(seats: int, processes: int) -> Any:
        """Return memory for so many processes, which are given it when they are spawned."""
        return get_context("spawn").RawArray("Q", (1 + 2 * seats) * processes)

    @staticmethod
    def clear(shared: Any, seats: int, own: int) -> None:
        """Forget what a process held: it has ended, or begins."""
        width = 1 + 2 * seats
        shared[width * own : width * (own + 1)] = [0] * width

    @property
    def ahead(self) -> bool:
        """Whether another process has fewer connections open than this one."""
        numbers, width = self._numbers[:], self._width
        open_ = [
            numbers[at] + sum(map(bool, numbers[at + 1 : at + width : 2]))
            for at in range(0, len(numbers), width)
        ]
        return bool(open_[self._at // width] > min(open_))

    def wait(self, connections: int) -> None:
        """Say how many connections of this process wait to be associated."""
        self._numbers[self._at] = connections

    def held(self, address: str, title: str) -> Held:
        """Count what is open now."""
        numbers, width = self._numbers[:], self._width
        addresses = [n for at in range(0, len(numbers), width) for n in numbers[at + 1 : at + width : 2] if n]
        titles = [n for at in range(0, len(numbers), width) for n in numbers[at + 2 : at + width : 2] if n]
        return Held(len(addresses), addresses.count(_mark(_source(address))), titles.count(_mark(title)))

    def sit(self, address: str, title: str) -> int | None:
        """Take a seat of this process for an association; None where none is free."""
        with self._lock:
            for seat in range(self._at + 1, self._at + self._width, 2):
                if not self._numbers[seat]:
                    self._numbers[seat] = _mark(_source(address))
                    self._numbers[seat + 1] = _mark(title)
                    return seat
        return None

    def leave(self, seat: int) -> None:
        """Give a seat back."""
        with self._lock:
            self._numbers[seat + 1] = 0
            self._numbers[seat] = 0


def _mark(text: str) -> int:
    """A number for a text, the same in every process, and never 0."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") | 1


def _source(address: str) -> str:
    """Who an address belongs to: one host has as many addresses of an IPv6 network (/64, RFC 4291) as it likes.

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
    """How many bytes of messages a process may hold; shared by its associations."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._lock = limit, 0, threading.Lock()

    def take(self, size: int) -> bool:
        """Take `size` more bytes; return False where there is no room, and nothing is taken then."""
        with self._lock:
            if self._held + size > self._limit:
                return False
            self._held += size
            return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._held -= size
