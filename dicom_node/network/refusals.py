"""Refusals, however many there are -> a few lines a second in the log."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

LOG = logging.getLogger(__name__)

#: Interval at which refusals are logged, each reason once with its count (s).
TELL_SECONDS = 1.0
#: Most different reasons logged each time, so that an attacker cannot fill the log.
TOLD = 20


class Refusals:
    """Counts refusals until they are logged; used by one thread only.

    Parameters
    ----------
    counted : callable, optional
        Called for each refusal.
    """

    def __init__(self, counted: Callable[[], None] = lambda: None) -> None:
        self._counted = counted
        self._counts, self._tell_at = Counter[tuple[str, str]](), 0.0

    def add(self, address: str, reason: str) -> None:
        """Count a connection or request that was refused; the reason must be printable."""
        self._counted()
        key = address, reason
        if key not in self._counts and len(self._counts) >= TOLD:
            key = "others", "refused, for reasons of their own"
        self._counts[key] += 1

    def tell(self, now: float) -> None:
        """Log the counted refusals if it is time."""
        if now < self._tell_at:
            return
        self._tell_at = now + TELL_SECONDS
        for (address, reason), count in self._counts.items():
            LOG.warning("%s: %s%s", address, reason, f" ({count} times)" if count > 1 else "")
        self._counts.clear()
