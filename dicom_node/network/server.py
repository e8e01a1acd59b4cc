"""A listening socket -> associations; one thread looks after all connections until they have requested one.

A connection costs no thread and only a few hundred bytes until its A-ASSOCIATE-RQ is complete and its sender is
admitted. At most `LOBBY` connections wait in a process. When one more arrives, the server takes the address that has
most of them and closes the one that has waited longest: a scanner sends its request a moment after it connects, an
attacker never does.
"""

from __future__ import annotations

import errno
import logging
import math
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

from ..errors import Rejected, Unavailable
from ..printable import printable
from .admission import Load
from .associations import Associations
from .door import Alert, Code, Door, Refusal
from .guest import Guest
from .refusals import Refusals
from .tls import HANDSHAKE_SECONDS, Certificates
from .upper_layer import ABORT, LOOK_SECONDS, Bell

LOG = logging.getLogger(__name__)

#: Most connections of a process that may wait to request an association.
LOBBY = 64
#: Time after which a connection that requests no association is closed (s; the ARTIM timer, PS3.8 9.1.5).
REQUEST_SECONDS = 10.0
#: Time that a rejected connection may take to close (s).
LEAVE_SECONDS = 2.0
#: Time for which a process leaves a new connection to processes with fewer, and time after which it does so afresh (s).
AFTER_SECONDS, FORGET_SECONDS = 0.02, 1.0
#: Most connections accepted in one go, before the waiting ones are looked at again.
AT_ONCE = 16
#: Pause in accepting where the system has no file handles or memory left (s).
BREATHER_SECONDS = 0.5
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
#: Errors after which the listening socket is unusable, and another process must take over.
BROKEN = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP})


def rejection(code: Code) -> bytes:
    """Return an A-ASSOCIATE-RJ PDU (PS3.8 9.3.4) of a result, source and reason."""
    return bytes([3, 0, 0, 0, 0, 4, 0, *code])


class Server(threading.Thread):
    """Makes associations from a socket that already listens; several processes may share the socket.

    Parameters
    ----------
    listening : socket
    door : Door
        Decides who may associate.
    load : Load
    associations : Associations
        Begins the associations that are admitted.
    certificates : Certificates, optional
        Certificates for TLS; without them, plain TCP.
    alert : callable
        Called with kind, AE title, address and reason for each caller that is refused, but not for want of room.
    refused : callable
        Called for each connection or request that is refused, whatever for.
    """

    def __init__(
        self,
        listening: socket.socket,
        door: Door,
        load: Load,
        associations: Associations,
        certificates: Certificates | None = None,
        alert: Alert = lambda kind, ae_title, address, reason: None,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name="AcceptorServer", daemon=True)
        self._listening, self._door, self._load, self._associations = listening, door, load, associations
        self._certificates, self._alert, self._refusals = certificates, alert, Refusals(refused)
        self._listening.setblocking(False)  # another process may accept first
        self._guests: dict[int, Guest] = {}
        self._poll, self._bell, self._ending = select.poll(), Bell(), False
        self._poll.register(self._bell.descriptor, select.POLLIN)
        self._accepts, self._accept_at = False, 0.0
        self._deferred, self._pause = False, AFTER_SECONDS

    def stop(self) -> None:
        """Stop accepting, and close the connections that wait."""
        self._ending = True
        self._bell.ring()
        self.join()

    def run(self) -> None:
        """Accept, read and decide until `stop` is called or nothing can be accepted any more."""
        try:
            self._serve()
        except Exception:  # a bug: the process checks whether this thread is alive, and ends
            LOG.exception("no connection is accepted any more")

    def _serve(self) -> None:
        while not self._ending:
            self._listen()
            ready = self._poll.poll(self._patience() * 1000)
            for descriptor, _ in ready:
                if descriptor == self._bell.descriptor:
                    self._bell.still()
                elif descriptor == self._listening.fileno():
                    self._accept()
                elif guest := self._guests.get(descriptor):
                    self._go_on(guest)
            self._tidy(time.monotonic())
        for guest in list(self._guests.values()):
            self._close(guest)
        self._refusals.tell(math.inf)
        self._listening.close()  # closes only this process's handle; the other processes go on listening

    def _listen(self) -> None:
        """Watch the listening socket, or leave it alone for a while."""
        if (wants := time.monotonic() >= self._accept_at) != self._accepts:
            self._accepts = wants
            if wants:
                self._poll.register(self._listening, select.POLLIN)
            else:
                self._poll.unregister(self._listening)

    def _patience(self) -> float:
        """Return how long to wait for the next event (s)."""
        return (
            LOOK_SECONDS if self._accepts else max(0.0, min(LOOK_SECONDS, self._accept_at - time.monotonic()))
        )

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            if self._load.ahead and self._defer(time.monotonic()):
                return
            try:
                connection, address = self._listening.accept()
            except BlockingIOError:  # another process accepted it first
                return
            except OSError as error:  # the other side has gone, or this system has no resources left
                if error.errno in EXHAUSTED:
                    self._refusals.add("this node", f"no connection can be accepted: {error.strerror}")
                    self._accept_at = time.monotonic() + BREATHER_SECONDS
                elif error.errno in BROKEN:
                    LOG.error("nothing can be accepted any more: %s", error.strerror)
                    self._ending = True
                return
            self._enter(connection, address)

    def _defer(self, now: float) -> bool:
        """Return whether to leave the next connection, for a moment, to processes that have fewer.

        Otherwise the fastest process would get all. The moment shrinks each time that nobody takes the connection,
        since then many are waiting or the other processes have ended.
        """
        since = now - self._accept_at
        if self._deferred and since < AFTER_SECONDS:
            self._deferred = False
            return False
        self._pause = AFTER_SECONDS if since > FORGET_SECONDS else self._pause / 2
        self._deferred, self._accept_at = True, now + self._pause
        return True

    def _enter(self, connection: socket.socket, address: tuple[str, int]) -> None:
        if not self._door.knows_address(address[0]):
            connection.close()
            reason = "no allowed peer has this address"
            self._refusals.add(address[0], reason)
            self._alert("rejected", "", address[0], reason)
            return
        if len(self._guests) >= LOBBY:
            self._make_room()
        tls = self._certificates
        seconds = REQUEST_SECONDS if tls is None else HANDSHAKE_SECONDS
        context = None if tls is None else tls.context()
        try:
            # Nagle's algorithm costs 40 ms an image
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            guest = Guest(connection, address, time.monotonic() + seconds, context)
        except OSError:  # the other side has already gone
            connection.close()
            return
        self._guests[guest.connection.fileno()] = guest
        self._poll.register(guest.connection, select.POLLIN)
        self._load.wait(len(self._guests))
        self._go_on(guest)

    def _make_room(self) -> None:
        """Close the connection that has waited longest, among those of the address that has most."""
        most = Counter(guest.host for guest in self._guests.values()).most_common(1)[0][0]
        # a dict keeps the order in which they came
        guest = next(guest for guest in self._guests.values() if guest.host == most)
        self._refusals.add(most, "closed: it requested no association, and others wait")
        self._close(guest)

    def _go_on(self, guest: Guest) -> None:
        """Read on from a connection; an error in it must not harm any other."""
        try:
            while not (events := guest.go_on()):
                if guest.titled and not guest.checked:
                    guest.checked = True
                    if refusal := self._door.who(guest.caller):
                        self._reject(guest, refusal)
                elif guest.whole:
                    self._decide(guest)
                    return
                elif not guest.titled:  # the TLS handshake is complete
                    guest.deadline = time.monotonic() + REQUEST_SECONDS
            self._poll.modify(guest.connection, events)
        except Rejected as error:
            self._refusals.add(guest.host, f"aborted: {error}")
            self._leave(guest, ABORT)
        except (OSError, EOFError) as error:
            self._failed(guest, error)
        except Exception as error:
            LOG.exception("a connection from %s", guest.host)
            self._failed(guest, error)

    def _failed(self, guest: Guest, error: Exception) -> None:
        if guest.shaking:
            reason = printable(getattr(error, "reason", None) or str(error) or "the connection ended")
            why = getattr(error, "verify_message", "")
            self._refusals.add(guest.host, f"TLS handshake failed: {reason}{why and f' ({why})'}")
            self._alert("no TLS", "", guest.host, reason)
        elif not guest.leaving:
            self._refusals.add(guest.host, "closed: no association was requested")
        self._close(guest)

    def _decide(self, guest: Guest) -> None:
        """Begin the association that was requested, or reject it."""
        refusal = self._door.room(guest.caller)
        if refusal is not None:
            self._reject(guest, refusal)
            self._poll.modify(guest.connection, select.POLLIN)
            return
        self._forget(guest)
        try:
            self._associations.begin(guest)
        except Unavailable as error:
            self._refusals.add(guest.host, f"closed: {error}")

    def _reject(self, guest: Guest, refusal: Refusal) -> None:
        self._refusals.add(guest.host, f"association rejected: {refusal.reason}")
        if refusal.code[0] == 1:  # permanent; a transient rejection says nothing about the caller
            self._alert("rejected", printable(guest.caller.calling), guest.host, refusal.reason)
        guest.leave(rejection(refusal.code), time.monotonic() + LEAVE_SECONDS)

    def _leave(self, guest: Guest, answer: bytes) -> None:
        try:
            guest.leave(answer, time.monotonic() + LEAVE_SECONDS)
            self._poll.modify(guest.connection, select.POLLIN)
        except OSError:
            self._close(guest)

    def _tidy(self, now: float) -> None:
        """Close connections that are late, log refusals, and free ended associations."""
        for guest in [guest for guest in self._guests.values() if now >= guest.deadline]:
            self._failed(guest, TimeoutError("it took too long"))
        self._refusals.tell(now)
        self._associations.collect(now)
        if self._certificates is not None:
            self._certificates.warn()

    def _close(self, guest: Guest) -> None:
        self._forget(guest)
        guest.close()

    def _forget(self, guest: Guest) -> None:
        descriptor = guest.connection.fileno()
        if self._guests.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)
            self._load.wait(len(self._guests))
