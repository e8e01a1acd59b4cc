"""A running node -> a file that says at every tick that it runs, for the page, `health` and `status`."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass

from ..settings.layout import Layout
from .durable import FILE_MODE

#: Time without a tick after which a node no longer counts as alive (s); a tick of a busy node takes seconds.
STILL_SECONDS = 60.0


@dataclass(frozen=True)
class Pulse:
    """What a running node says of itself.

    Parameters
    ----------
    version : str
    started : float
        Time at which it started (s since 1970).
    port : int
        Port on which it receives.
    accepting, acceptors : int
        Number of processes that accept connections, and number that should.
    at : float
        Time of its last tick (s since 1970).
    """

    version: str
    started: float
    port: int
    accepting: int
    acceptors: int
    at: float

    def stands_still(self, now: float) -> bool:
        """Return whether the last tick is too long ago; a clock that was set back shows after the next tick."""
        return now - self.at > STILL_SECONDS


def beat(layout: Layout, pulse: Pulse) -> None:
    """Write the pulse. It is no state: a disk that takes it later, or not at all, does no harm."""
    values = {name: value for name, value in asdict(pulse).items() if name != "at"}
    content = json.dumps(values).encode()
    with suppress(OSError):
        descriptor = os.open(layout.heartbeat, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            if os.pread(descriptor, len(content) + 1, 0) != content:
                os.pwrite(descriptor, content, 0)
                os.ftruncate(descriptor, len(content))
            os.utime(descriptor, (pulse.at, pulse.at))
        finally:
            os.close(descriptor)


def read_pulse(layout: Layout) -> Pulse | None:
    """Return the pulse of the node that last used a storage; None where there is none."""
    try:
        content, at = layout.heartbeat.read_bytes(), layout.heartbeat.stat().st_mtime
        return Pulse(**json.loads(content), at=at)
    except (OSError, ValueError, TypeError):
        return None


def runs(layout: Layout) -> bool:
    """Return whether a node uses a storage now: it holds the lock of the storage."""
    try:
        descriptor = os.open(layout.lock, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
