"""What every part of the page works with, and what one request asks."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..audit.trail import Trail
from ..errors import Unavailable
from ..intake.header_reader import Reader
from ..settings.config import Config
from ..settings.web import WebSettings
from ..store.archive import Archive
from ..store.database import Database
from .oidc import Provider
from .previews import Pictures
from .sessions import Sessions
from .users import User

LOG = logging.getLogger(__name__)
#: Most audit messages of views that wait to be written.
WAITING = 10_000


class Notebook:
    """Writes down who looked at what, in a thread of its own, so that a page never waits for the database's writers."""

    def __init__(self) -> None:
        self._told: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._write, daemon=True, name="audit")
        self._thread.start()

    def tell(self, message: Callable[[], None]) -> None:
        """Have a message written soon."""
        try:
            self._told.put_nowait(message)
        except queue.Full:
            LOG.error("audit: %d messages wait, one is lost", WAITING)

    def close(self) -> None:
        """Write what waits."""
        self._told.put(None)
        self._thread.join(2.0)

    def _write(self) -> None:
        while (message := self._told.get()) is not None:
            try:
                message()
            except Unavailable as error:
                LOG.error("audit: a message is lost: %s", error)


@dataclass(frozen=True)
class Site:
    """The parts of a node that the page reads and calls."""

    config: Config
    settings: WebSettings
    database: Database
    archive: Archive
    trail: Trail
    sessions: Sessions
    previews: Reader[bytes]
    notebook: Notebook
    provider: Provider | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    pictures: Pictures = field(default_factory=Pictures)
    decoding: threading.Lock = field(default_factory=threading.Lock)

    @property
    def results(self) -> Path:
        """Return the folder of all results."""
        return self.config.layout.results


@dataclass(frozen=True)
class Ask:
    """One request: who asks, and for what.

    Parameters
    ----------
    user : User
    path : mapping of str to str
        Parts of the address, e.g. ``{"job": "7"}``.
    query : mapping of str to str
        Values after the question mark, or of a form.
    address : str
        Where the request came from.
    """

    user: User
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
