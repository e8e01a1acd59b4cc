"""Ticks: each step is called at an interval; only the database knows what is due and when."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from ..errors import Unavailable
from ..troubles import Troubles

LOG = logging.getLogger(__name__)


class _Every(BaseTrigger):
    """A trigger that fires at a fixed time after now; APScheduler's counts each tick that a clock set ahead skips."""

    def __init__(self, seconds: float) -> None:
        self._pause = timedelta(seconds=seconds)

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        """Return the time of the next tick."""
        return now + self._pause


class _Steady(BackgroundScheduler):
    """A scheduler for a clock that may be set back, where APScheduler's would sleep until the clock has caught up.

    Parameters
    ----------
    seconds : float
        Interval of every job (s).
    """

    def __init__(self, seconds: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._seconds = seconds

    def _process_jobs(self) -> float | None:
        """Start the jobs that are due and return the time until the next one is (s)."""
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
        Interval between two calls of a step (s).
    """

    def __init__(self, steps: Mapping[str, Callable[[], object]], seconds: float) -> None:
        self._scheduler: Any = _Steady(
            seconds, executors={"default": ThreadPoolExecutor(max(1, len(steps)))}, timezone=UTC
        )
        for name, step in steps.items():
            self._scheduler.add_job(
                _tick,
                _Every(seconds),
                args=(step, Troubles(name, LOG)),
                id=name,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
                next_run_time=datetime.now(UTC),
            )

    def start(self) -> None:
        """Start ticking at once."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stop ticking, and wait for the steps under way."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)


def _tick(step: Callable[[], object], troubles: Troubles) -> None:
    try:
        step()
    except Unavailable as error:
        troubles.again(str(error))
    except Exception as error:  # the boundary of the thread: a bug in one step must not end the others
        if (
            isinstance(error, OSError) and error.errno is not None
        ):  # a disk that is away, no file handles left
            troubles.again(str(error.strerror))
        else:
            LOG.exception("%s failed", troubles.name)
    else:
        troubles.over()
