"""Associations that have ended -> a line in the log each, and their numbers by caller."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Literal

from ..printable import printable
from .acceptor import Acceptor

LOG = logging.getLogger(__name__)

#: Most AE titles that are counted apart between two looks at the numbers; the rest is counted under "".
MOST = 100
End = Literal["released", "aborted", "refused"]


class Visits:
    """Counts the associations of a process until somebody takes the numbers."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, End]] = Counter()
        self._lock = threading.Lock()

    def ended(self, assoc: Acceptor) -> None:
        """Log and count an association that has ended; called in its thread."""
        calling = str(assoc.requestor.ae_title or "").strip()
        visit, seconds = assoc.visit, time.monotonic() - assoc.visit.begun
        how: End = "released" if assoc.is_released else "aborted"
        LOG.info(
            "association of %s at %s: %d instances, %.1f MB in %.1f s (%.0f/s)%s; %s",
            *(printable(calling), assoc.requestor.address),
            *(visit.instances, visit.size / 1e6, seconds, visit.instances / max(seconds, 0.001)),
            f", {visit.refused} refused" if visit.refused else "",
            how,
        )
        self._add(calling, how)

    def refused(self) -> None:
        """Count a connection or a request that was refused."""
        self._add("", "refused")

    def take(self) -> dict[tuple[str, End], int]:
        """Return the numbers since the last call, by calling AE title and end."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return dict(counts)

    def give_back(self, counts: dict[tuple[str, End], int]) -> None:
        """Take numbers back that could not be written."""
        with self._lock:
            self._counts.update(counts)

    def _add(self, calling: str, how: End) -> None:
        with self._lock:
            key = calling, how
            self._counts[key if key in self._counts or len(self._counts) < MOST else ("", how)] += 1
