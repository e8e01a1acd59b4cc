"""Ticks: calls each step at an interval; what is due, and when, only the database knows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from ..errors import Unavailable

LOG = logging.getLogger(__name__)


class _Every(BaseTrigger):
    """So long after now, whenever that is: APScheduler's interval counts every tick that a clock set ahead skipped."""

    def __init__(self, seconds: float) -> None:
        self._pause = timedelta(seconds=seconds)

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        """When to tick again."""
        return now + self._pause


class _Steady(BackgroundScheduler):
    """APScheduler's, for a clock that may be set back: it would sleep until the clock is where it was.

    Parameters
    ----------
    seconds : float
        The interval of every job.
    """

    def __init__(self, seconds: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._seconds = seconds

    def _process_jobs(self) -> float | None:
        """Start what is due; returns the seconds until something is."""
        wait: float | None = super()._process_jobs()
        if wait is not None and wait > 2 * self._seconds:
            LOG.warning("the clock was set back: ticking goes on")
            for job in self.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))
            return 0.0
        return wait


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
        self._scheduler: Any = _Steady(
            seconds, executors={"default": ThreadPoolExecutor(max(1, len(steps)))}, timezone=UTC
        )
        for name, step in steps.items():
            self._scheduler.add_job(
                _tick,
                _Every(seconds),
                args=(name, step),
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
