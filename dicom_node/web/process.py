"""The page as a process of its own: started beside a node, started again when it dies, and ended with the node."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import uvicorn

from ..audit.trail import Trail
from ..errors import Rejected, Unavailable
from ..intake.header_reader import Reader
from ..metrics.answers import Answers
from ..network.tls import page_context
from ..processes import begin
from ..settings.config import Config
from ..settings.web import WebSettings
from ..store.archive import Archive
from ..store.database import Database
from ..store.heartbeat import read_pulse
from ..store.keys import node_key
from .oidc import Provider
from .sessions import Sessions, keep_writing

# The rest of the page, and the analysis that it shows, is loaded in its own process only, not in the node's.
if TYPE_CHECKING:
    from .site import Site

LOG = logging.getLogger(__name__)

#: Niceness of the page: receiving goes first.
NICE = 5
#: First and longest pause before the page is started again (s), and time after which the next one is the first again.
AGAIN_SECONDS, LONGEST_PAUSE_SECONDS, STEADY_SECONDS = 1.0, 30.0, 60.0
#: Time to wait for answers under way when the page stops (s).
STOP_SECONDS = 2
#: Most connections at one time; a page uses about seven.
CONNECTIONS = 400
FLUSH_SECONDS = 1.0


@dataclass(frozen=True)
class _Order:
    """The arguments of the page's process; `identity` is that of the node's database, see `Database`."""

    config: Config
    listening: Any
    prepare: Callable[[], None] | None
    identity: str


class Page:
    """The page of a node.

    Parameters
    ----------
    config : Config
        With the table `[web]`.
    prepare : callable, optional
        Function of a module that is called first in the process, e.g. to configure its log.

    Raises
    ------
    Rejected
        Where the certificate of `[web.tls]`, or what `[web.oidc]` names, cannot be used.
    """

    def __init__(self, config: Config, prepare: Callable[[], None] | None = None) -> None:
        if config.web is None:
            raise Rejected("the page needs the table [web]")
        self._config, self._settings, self._prepare = config, config.web, prepare
        if config.web.tls is not None:
            page_context(config.web.tls)
        if config.web.oidc is not None:
            Provider(config.web.oidc, b"")
        self._stopping = threading.Event()
        self._listening: socket.socket | None = None
        self._keeper: threading.Thread | None = None
        self.address = ""

    def start(self, identity: str = "") -> None:
        """Listen, and start the process.

        Parameters
        ----------
        identity : str
            Of the node's database, so that the process opens no other in its place.

        Raises
        ------
        Unavailable
            Where the address or port is taken.
        """
        host, port = self._settings.host, self._settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listening = socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            raise Unavailable(f"the page cannot listen on {host} port {port}: {error.strerror}") from error
        scheme = "https" if self._settings.tls else "http"
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{scheme}://{shown}:{self._listening.getsockname()[1]}/"
        order = _Order(self._config, self._listening, self._prepare, identity)
        self._keeper = threading.Thread(target=self._keep, args=(order,), name="page", daemon=True)
        self._keeper.start()
        LOG.info("the page is at %s", self.address)

    def stop(self) -> None:
        """End the process and stop listening."""
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.join()
        if self._listening is not None:
            self._listening.close()

    def _keep(self, order: _Order) -> None:
        """Run the process until the node stops, and start it again whenever it ends."""
        pause = AGAIN_SECONDS
        while not self._stopping.is_set():
            begun = time.monotonic()
            why = self._run(order)
            if self._stopping.is_set():
                return
            pause = AGAIN_SECONDS if time.monotonic() - begun > STEADY_SECONDS else pause
            LOG.error("the page %s: started again after %g s", why, pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _run(self, order: _Order) -> str:
        mine, theirs = Pipe()
        try:
            process = get_context("spawn").Process(target=_serve, args=(order, theirs), name="page")
            process.start()
        except OSError as error:
            return f"cannot be started ({error.strerror})"
        finally:
            theirs.close()
        while process.is_alive() and not self._stopping.is_set():
            self._stopping.wait(0.1)
        mine.close()  # tells the process to end
        process.join(2 * STOP_SECONDS if self._stopping.is_set() else 0.0)
        process.kill()
        process.join()
        return f"ended ({process.exitcode})"


def _serve(order: _Order, pipe: Connection) -> None:
    """Serve the page, in a process of its own, until the node ends or tells it to end."""
    begin(order.prepare, nice=NICE)
    settings = order.config.web
    assert settings is not None
    site = open_site(order.config, settings, order.prepare, order.identity)
    answers = Answers(order.config, site.database, partial(read_pulse, order.config.layout))
    server = make_server(site, settings, answers.paths)
    serving = threading.Thread(target=server.run, args=([order.listening],), daemon=True)
    serving.start()
    threading.Thread(target=keep_writing, args=(site.sessions, site.stopped), daemon=True).start()
    while serving.is_alive() and not _told_to_end(pipe):
        try:
            site.trail.flush()
        except Unavailable as error:
            LOG.warning("audit: %s", error)
    site.stopped.set()
    server.should_exit = True
    serving.join(2 * STOP_SECONDS)
    close_site(site)


def _told_to_end(pipe: Connection) -> bool:
    try:
        return pipe.poll(FLUSH_SECONDS)
    except (OSError, EOFError):
        return True


def open_site(
    config: Config, settings: WebSettings, prepare: Callable[[], None] | None = None, identity: str = ""
) -> Site:
    """Open what the page works with.

    Raises
    ------
    Unavailable
        Where the storage or the database cannot be reached.
    """
    from .previews import preview
    from .site import Notebook, Site

    database = Database(config.database_url, identity=identity)
    archive = Archive(config.storage, database)
    key = node_key(config.layout)
    return Site(
        config,
        settings,
        database,
        archive,
        Trail(database, config.audit, config.receive.ae_title),
        Sessions(database, settings, key),
        Reader(preview, prepare),
        Notebook(),
        None if settings.oidc is None else Provider(settings.oidc, key),
    )


def close_site(site: Site) -> None:
    """Close what `open_site` opened."""
    site.stopped.set()
    site.notebook.close()
    site.previews.close()
    try:
        site.trail.flush()
    except Unavailable as error:
        LOG.warning("audit: %s", error)
    site.database.close()


def make_server(
    site: Site, settings: WebSettings, bare: Mapping[str, Callable[[], Any]] | None = None
) -> uvicorn.Server:
    """Return a server of the page that has not started yet."""
    from .app import make_app

    config = uvicorn.Config(
        make_app(site, bare),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the guard believes only named proxies
        http="h11",
        ws="none",
        lifespan="off",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    config.load()
    if settings.tls is not None:
        config.ssl = page_context(settings.tls)
    return uvicorn.Server(config)
