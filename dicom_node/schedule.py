"""Ticks: calls each step at an interval; what is due, and when, only the database knows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from .errors import Unavailable

LOG = logging.getLogger(__name__)


class Schedule:
    """Steps called again and again, each in a thread of its own and never twice at one time.

    A step that raises `Unavailable` is called again at the next tick; so is one with a bug, which is logged.

    Parameters
    ----------
    steps : mapping of name to callable
    seconds : float
        Between two calls.
    """

    def __init__(self, steps: Mapping[str, Callable[[], None]], seconds: float) -> None:
        self._scheduler: Any = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(max(1, len(steps)))}, timezone=UTC
        )
        for name, step in steps.items():
            self._scheduler.add_job(
                _tick,
                "interval",
                args=(name, step),
                seconds=seconds,
                id=name,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
                next_run_time=datetime.now(UTC),
            )

    def start(self) -> None:
        """Begin to tick, at once."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stop ticking, and wait for the steps under way."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)


def _tick(name: str, step: Callable[[], None]) -> None:
    try:
        step()
    except Unavailable as error:
        LOG.warning("%s: %s", name, error)
    except Exception:  # the boundary of the thread: a bug in one step must not end the others
        LOG.exception("%s failed", name)
