"""Who gets in: connections, associations and bytes that are held, of all processes that receive."""

from __future__ import annotations

import threading
from typing import Any


class Load:
    """Connections and associations that are open now, of every process that shares a socket.

    Each process writes its own numbers and reads the sums, without a lock that a killed process could keep: in a
    race, every further process may let in one too many.

    Parameters
    ----------
    numbers : sequence of int
        Two for each process; shared memory where there are several.
    own : int
        Which process this is.
    """

    def __init__(self, numbers: Any = None, own: int = 0) -> None:
        self._numbers: Any = [0, 0] if numbers is None else numbers
        self._at, self._lock = 2 * own, threading.Lock()
        self._numbers[self._at : self._at + 2] = [0, 0]

    @property
    def connections(self) -> int:
        """Open, of all processes."""
        return sum(self._numbers[0::2])

    @property
    def associations(self) -> int:
        """Requested and not rejected, of all processes."""
        return sum(self._numbers[1::2])

    @property
    def ahead(self) -> bool:
        """Whether another process has fewer connections open than this one."""
        return self._numbers[self._at] > min(self._numbers[0::2])

    def count(self, connections: int = 0, associations: int = 0) -> None:
        """Add to this process's numbers."""
        with self._lock:
            self._numbers[self._at] += connections
            self._numbers[self._at + 1] += associations


class Memory:
    """How many bytes of messages a process may hold; shared by its associations."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._lock = limit, 0, threading.Lock()

    def take(self, size: int) -> bool:
        """False where there is no room for `size` more bytes; they are not held then."""
        with self._lock:
            if self._held + size > self._limit:
                return False
            self._held += size
            return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._held -= size
