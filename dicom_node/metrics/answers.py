"""A path -> what the node answers to a probe or a scrape; a page, or `server`, hands the answer on.

No login is asked for, so nothing here may tell of a study or a patient.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..settings.config import Config
from ..store.database import Database
from ..store.heartbeat import Pulse
from .collector import exposition
from .health import Health, live, ready

TEXT = "text/plain; charset=utf-8"
#: Content type of Prometheus' text format.
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """An answer by HTTP.

    Parameters
    ----------
    status : int
        200, or 503 where something is wrong.
    content_type : str
    body : bytes
    """

    status: int
    content_type: str
    body: bytes


class Answers:
    """The answers of one node; any thread may ask.

    Parameters
    ----------
    config : Config
    database : Database
    pulse : callable
        Returns the last pulse of the node, or None: its own in the node, `store.heartbeat.read_pulse` elsewhere.
    """

    def __init__(self, config: Config, database: Database, pulse: Callable[[], Pulse | None]) -> None:
        self.paths: dict[str, Callable[[], Answer]] = {
            "/metrics": lambda: Answer(200, EXPOSITION, exposition(config, database, pulse)),
            "/livez": lambda: _of(live(pulse(), time.time())),
            "/readyz": lambda: _of(ready(config, pulse(), lambda: database, time.time())),
        }

    def answer(self, path: str) -> Answer | None:
        """Return the answer to GET; None for a path that is none of `paths`."""
        known = self.paths.get(path)
        return None if known is None else known()


def _of(health: Health) -> Answer:
    return Answer(200 if health.well else 503, TEXT, health.text.encode())
