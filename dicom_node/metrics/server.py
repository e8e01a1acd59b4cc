"""`/metrics`, `/livez` and `/readyz` without a page: a small server of the standard library, in threads of the node."""

from __future__ import annotations

import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ..errors import Unavailable
from ..settings.config import MetricsSettings
from .answers import TEXT, Answer, Answers

LOG = logging.getLogger(__name__)

#: Most requests at one time; further connections are closed.
MOST = 8
#: Longest silence of a connection, and longest time that it may last (s).
SILENCE_SECONDS, LONGEST_SECONDS = 5.0, 15.0
NOT_FOUND = Answer(404, TEXT, b"not found\n")


class _Handler(BaseHTTPRequestHandler):
    """Answers one GET or HEAD, and closes."""

    server: _Server
    timeout = SILENCE_SECONDS
    server_version, sys_version = "dicom-node", ""

    def do_GET(self) -> None:
        """Answer with a body."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        answer = self.server.answers.answer(self.path.partition("?")[0]) or NOT_FOUND
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log no request: a probe comes every few seconds."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, settings: MetricsSettings, answers: Answers) -> None:
        self.answers = answers
        self.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self._open: dict[int, tuple[float, socket.socket]] = {}
        self._lock = threading.Lock()
        super().__init__((settings.host, settings.port), _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether there is room for one more connection."""
        with self._lock:
            if len(self._open) >= MOST:
                return False
            self._open[id(request)] = time.monotonic(), request
        return True

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and free its place."""
        with self._lock:
            self._open.pop(id(request), None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut connections that last too long, however lively they are; called every half second."""
        with self._lock:
            late = [c for at, c in self._open.values() if time.monotonic() - at > LONGEST_SECONDS]
        for connection in late:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended meanwhile
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a bug; a caller that went away is none."""
        LOG.debug("a request for the metrics failed", exc_info=True)


class MetricsServer:
    """The server of a node.

    Parameters
    ----------
    settings : MetricsSettings
    answers : Answers
    """

    def __init__(self, settings: MetricsSettings, answers: Answers) -> None:
        self._settings, self._answers = settings, answers
        self._server: _Server | None = None
        self.host, self.port = settings.host, 0

    def start(self) -> None:
        """Listen, and answer in threads.

        Raises
        ------
        Unavailable
            Where the address or port is taken.
        """
        try:
            self._server = _Server(self._settings, self._answers)
        except OSError as error:
            where = f"{self._settings.host} port {self._settings.port}"
            raise Unavailable(
                f"cannot listen on {where} for the metrics: {error.strerror or error}"
            ) from error
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
