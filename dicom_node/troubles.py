"""The same trouble again and again -> one line in the log when it begins, and one with a count when it is over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Most different reasons that are told apart at one time, so that reasons which never repeat cannot fill the memory.
MOST = 20


@dataclass
class _Trouble:
    since: float
    times: int = 1


class Troubles:
    """What is wrong with one thing, e.g. a destination.

    Parameters
    ----------
    name : str
        What it is wrong with, for the log.
    log : Logger
    clock : callable
        Returns a time that only grows (s).
    """

    def __init__(self, name: str, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self._log, self._clock = name, log, clock
        self._known: dict[str, _Trouble] = {}
        self._lock = threading.Lock()

    def again(self, reason: str) -> None:
        """Take note that something went wrong; only a reason that is not known yet is logged."""
        with self._lock:
            if (trouble := self._known.get(reason)) is not None:
                trouble.times += 1
                return
            if len(self._known) >= MOST:
                del self._known[next(iter(self._known))]
            self._known[reason] = _Trouble(self._clock())
        # a peer's own sentence names it already
        self._log.warning("%s", reason if reason.startswith(self.name) else f"{self.name}: {reason}")

    def over(self) -> None:
        """Take note that all is well, and say of each trouble how often it was met and for how long."""
        if not self._known:
            return
        with self._lock:
            known, self._known = self._known, {}
        for reason, trouble in known.items():
            lasted = self._clock() - trouble.since
            self._log.info(
                "%s: works again, after %d times in %.0f s: %s", self.name, trouble.times, lasted, reason
            )
