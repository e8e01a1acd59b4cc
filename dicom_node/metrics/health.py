"""The pulse, the database and the disk of a node -> whether it lives, and whether it is ready, with the reasons."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from ..errors import NodeError
from ..settings.config import Config
from ..store.database import Database
from ..store.heartbeat import Pulse
from ..store.tables import schema


@dataclass(frozen=True)
class Health:
    """Whether all is well, in sentences.

    Parameters
    ----------
    problems : tuple of str
        Empty where all is well. They hold no patient data.
    """

    problems: tuple[str, ...]

    @property
    def well(self) -> bool:
        """Return whether there is no problem."""
        return not self.problems

    @property
    def text(self) -> str:
        """Return "ok", or the problems, a line each."""
        return "".join(f"{line}\n" for line in self.problems or ("ok",))


def live(pulse: Pulse | None, now: float) -> Health:
    """Return whether the node's ticks run; a node that is not live must be ended and started again.

    Parameters
    ----------
    pulse : Pulse or None
        The last word of the node; None where no node has run.
    now : float
        Current time (s since 1970).
    """
    if pulse is None:
        return Health(("no node has run with this storage",))
    if pulse.stands_still(now):
        return Health((f"no tick has run for {now - pulse.at:.0f} s",))
    return Health(())


def ready(config: Config, pulse: Pulse | None, open_database: Callable[[], Database], now: float) -> Health:
    """Return whether the node can receive: it lives, its port is open, its disk has room, its database answers.

    Parameters
    ----------
    open_database : callable
        Returns the database, or raises `NodeError`.
    """
    problems = list(live(pulse, now).problems)
    if pulse is not None and not problems and pulse.accepting < 1:
        problems.append(f"no process accepts connections on port {pulse.port}")
    problems += [line for line in (_disk(config), _database(open_database)) if line]
    return Health(tuple(problems))


def _disk(config: Config) -> str:
    try:
        free = shutil.disk_usage(config.storage).free / 1e6
    except OSError as error:
        return f"the storage cannot be looked at: {error.strerror}"
    low = config.receive.min_free_mb
    return f"{free:.0f} MB left on the disk: below {low} MB nothing is received" if free < low else ""


def _database(open_database: Callable[[], Database]) -> str:
    try:
        with open_database().reading() as connection:
            connection.execute(sa.select(schema.c.version)).first()
    except NodeError as error:
        return str(error)
    return ""
