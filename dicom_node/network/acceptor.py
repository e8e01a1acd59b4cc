"""A connection -> DIMSE requests, served in a thread that waits until there is one: pynetdicom's acceptor."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pynetdicom import evt
from pynetdicom.association import Association

from .admission import Memory
from .c_store_codec import Dimse
from .upper_layer import LOOK_SECONDS, Messages, Ringing, UpperLayer

LOG = logging.getLogger(__name__)


@dataclass
class Visit:
    """What an association has brought so far; only its own thread writes it.

    Parameters
    ----------
    instances, refused : int
        Number of instances that were answered with success or a warning, and with anything else.
    size : int
        Size of those answered with success or a warning (bytes).
    begun : float
        Time at which it began (`time.monotonic`, s).
    """

    instances: int = 0
    refused: int = 0
    size: int = 0
    begun: float = field(default_factory=time.monotonic)


class Keeper(Protocol):
    """Counts the associations that are open."""

    def left(self, assoc: Acceptor) -> None:
        """Take note that an association has ended; called in its thread."""


class Acceptor(Association):
    """The acceptor's side of an association, woken by its upper layer."""

    dul: UpperLayer
    is_established: bool

    def __init__(self, ae: Any, memory: Memory, keeper: Keeper) -> None:
        super().__init__(ae, "acceptor")
        self._woken = threading.Event()
        self.dul = UpperLayer(self, memory, self.wake)
        self.dul.to_user_queue = Ringing(self.wake)
        self.dimse = Dimse(self)
        self.dimse.msg_queue = Messages(self.dul, self.wake)
        self.acse_timeout, self.network_timeout = ae.acse_timeout, ae.network_timeout
        self._keeper = keeper
        self.seat = 0  # its seat in the server's load
        self.visit = Visit()
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._asked: dict[int, Callable[[int | None], None]] = {}

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` in this association's thread after `seconds`, if the association is still established then.

        This method itself must be called in that thread, i.e. by a handler.
        """
        self._later.append((time.monotonic() + seconds, act))

    def ask(self, primitive: Any, context_id: int, on_response: Callable[[int | None], None]) -> None:
        """Send a request of this side in this association's thread, and pass the response's status to `on_response`.

        pynetdicom's ``send_n_event_report`` takes the next message for its response, whatever it is; but a peer
        may send a request of its own in between.
        """
        self._asked[primitive.MessageID] = on_response
        self.dimse.send_msg(primitive, context_id)

    def _serve_request(self, msg: Any, context_id: int) -> None:
        on_response = self._asked.pop(msg.MessageIDBeingRespondedTo, None)
        if on_response is not None:
            _act(lambda: on_response(msg.Status))
        else:
            super()._serve_request(msg, context_id)

    def _act_on_due(self) -> None:
        now = time.monotonic()
        due = [act for at, act in self._later if at <= now]
        self._later = [(at, act) for at, act in self._later if at > now]
        for act in due:
            _act(act)

    def run_reactor(self) -> None:
        """Serve the association from its first byte to its last; the server counts it as open until then."""
        try:
            super().run_reactor()
        finally:
            self._keeper.left(self)

    def _bind_defaults(self) -> None:
        """Bind pynetdicom's default handlers except those that log every PDU."""
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    def wake(self) -> None:
        """Wake the thread, since there may be something to do."""
        self._woken.set()

    def _run_reactor(self) -> None:
        """Serve requests as pynetdicom's method does, but wait for events where that one polls every 1 ms."""
        while not self._kill:
            self._is_paused = True
            self._woken.wait(LOOK_SECONDS)
            self._woken.clear()
            self._reactor_checkpoint.wait()
            self._is_paused = False
            context_id, message = self.dimse.get_msg(block=False)
            if message is not None and context_id is not None:
                self._woken.set()  # look again afterwards: a message that came meanwhile is announced only once
                self._serve_request(message, context_id)
                self.dul.served()
            elif self._is_over():
                self.kill()
            elif self._later and self.is_established:
                self._act_on_due()

    def _is_over(self) -> bool:
        if self.is_established and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released, self.is_established = True, False
            evt.trigger(self, evt.EVT_RELEASED, {})
            return True
        if self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)
            self.is_aborted, self.is_established = True, False
            evt.trigger(self, evt.EVT_ABORTED, {})
            return True
        if self.dul.is_alive() and self.dul.idle_timer_expired():
            LOG.warning("association aborted: silent for %.0f s", self.network_timeout)
            self.abort()
            return True
        return not self.dul.is_alive()


def _act(act: Callable[[], None]) -> None:
    try:
        act()
    except Exception:  # the boundary of the thread: its association must go on
        LOG.exception("a request of this side failed")
