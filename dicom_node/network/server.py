"""A listening socket -> connections, taken in turns by several processes, after a TLS handshake of their own."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from .acceptor import LOG, LOOK_SECONDS, Acceptor
from .admission import Load, Memory
from .tls import shake_hands

#: So long a process leaves a new connection to those with fewer, seconds.
AFTER_SECONDS = 0.02


#: Connections a process takes for every association it may have: those still to be associated or rejected.
CONNECTIONS = 2


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))


@dataclass(frozen=True)
class Handshake:
    """How TLS begins: with which context, and who is told where it fails: an address, a reason."""

    context: ssl.SSLContext
    failed: Callable[[str, str], None]


class Handler(RequestHandler):
    """A connection -> its association."""

    server: Server

    def _create_association(self) -> Acceptor:
        """As pynetdicom's, without copying the 170 supported contexts for every one."""
        assoc = Acceptor(self.ae, self.server.memory)
        assoc._server = self.server
        assoc.name = f"AcceptorThread@{datetime.now():%Y%m%d%H%M%S}"
        assoc.set_socket(AssociationSocket(assoc, client_socket=self.request))
        acceptor, ae = assoc.acceptor, self.ae
        acceptor.maximum_length, acceptor.ae_title = ae.maximum_pdu_size, self.server.ae_title
        acceptor.address_info, assoc.requestor.address_info = self.local, self.remote
        acceptor.implementation_class_uid = ae.implementation_class_uid
        acceptor.implementation_version_name = ae.implementation_version_name
        acceptor.supported_contexts = self.server.contexts
        for event, handlers in self.server._handlers.items():
            for handler in [handlers] if event.is_intervention else handlers:
                if handler:
                    assoc.bind(event, *handler)
        return assoc


class Server(ThreadedAssociationServer):
    """Associations from a socket that listens already; several processes may share it.

    Parameters
    ----------
    ae : AE
    listening : socket
    load : Load
        Counts the connections; where there are twice as many as associations may be, further ones are closed.
    memory : Memory
    evt_handlers : list
    handshake : Handshake, optional
        Without it, no TLS.
    """

    socket: Any
    daemon_threads = True  # a handshake under way must not hold up the end of the node

    def __init__(
        self,
        ae: Any,
        listening: socket.socket,
        load: Load,
        memory: Memory,
        evt_handlers: list[Any],
        handshake: Handshake | None = None,
    ) -> None:
        self._listening, self.load, self.memory = listening, load, memory
        self._handshake, contexts = handshake, ae.supported_contexts
        ssl_context = None if handshake is None else handshake.context
        address = listening.getsockname()
        super().__init__(ae, address, ae.ae_title, contexts, ssl_context, evt_handlers, Handler)
        ae._servers.append(self)  # as start_server does; shutdown takes it out

    def _bind_defaults(self) -> None:
        """Those of `Acceptor` are enough."""

    def server_bind(self) -> None:
        """Take the socket that listens already, instead of a new one."""
        self.socket.close()
        self.socket = self._listening
        self.socket.setblocking(False)  # another process may be quicker at accept
        self.server_address = self.socket.getsockname()

    def server_activate(self) -> None:
        """Nothing: it listens."""

    def server_close(self) -> None:
        """Close this process's hold of the socket, without ending it for the others."""
        self.socket.close()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept, no more: pynetdicom shakes hands here, and one silent client would stop all others."""
        if self.load.ahead:  # whoever is quick would get all: the others first, if they are there
            time.sleep(AFTER_SECONDS)
        connection, address = self.socket.accept()
        connection.setblocking(True)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is room to talk to this client; where there is, it is counted."""
        if not (room := self.load.connections < CONNECTIONS * self.ae.maximum_associations):
            LOG.warning("connection from %s closed: too many are open", client_address[0])
        self.load.count(connections=int(room))
        return room

    def left(self, assoc: Acceptor) -> None:
        """The connection has ended."""
        self.load.count(connections=-1, associations=-int(assoc.counted))

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In a thread of the connection's own: shake hands, then associate."""
        if self._handshake is not None:
            try:
                request = shake_hands(self._handshake.context, request)
            except OSError as error:  # ssl.SSLError and time-outs are OSErrors
                LOG.warning("TLS handshake with %s failed: %s", client_address[0], error)
                self._handshake.failed(client_address[0], getattr(error, "reason", None) or str(error))
                self.load.count(connections=-1)
                return
        if isinstance(request, ssl.SSLSocket):
            request.settimeout(self.ae.network_timeout)
        else:  # the system's time-outs: with Python's own, every call is two
            for option, seconds in (
                (socket.SO_RCVTIMEO, LOOK_SECONDS),
                (socket.SO_SNDTIMEO, self.ae.network_timeout),
            ):
                request.setsockopt(socket.SOL_SOCKET, option, _timeval(seconds or 0.0))
        super().finish_request(request, client_address)
