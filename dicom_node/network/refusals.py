"""What is refused, however often -> the log, a few lines a second."""

from __future__ import annotations

import logging
from collections import Counter

LOG = logging.getLogger(__name__)

#: What was refused is told so often, each reason once with its number, seconds.
TELL_SECONDS = 1.0
#: Different ones that are told each time; an attacker must not fill the log.
TOLD = 20


class Refusals:
    """Counts what is refused until it is told; of one thread."""

    def __init__(self) -> None:
        self._counts, self._tell_at = Counter[tuple[str, str]](), 0.0

    def add(self, address: str, reason: str) -> None:
        """Count a connection, or a request, that was refused; the reason can be printed."""
        key = address, reason
        if key not in self._counts and len(self._counts) >= TOLD:
            key = "others", "refused, for reasons of their own"
        self._counts[key] += 1

    def tell(self, now: float) -> None:
        """Log what was counted, if it is time to."""
        if now < self._tell_at:
            return
        self._tell_at = now + TELL_SECONDS
        for (address, reason), count in self._counts.items():
            LOG.warning("%s: %s%s", address, reason, f" ({count} times)" if count > 1 else "")
        self._counts.clear()
