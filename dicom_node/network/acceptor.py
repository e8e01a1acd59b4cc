"""A connection -> DIMSE requests, served in a thread that waits until there is one: pynetdicom's acceptor."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from pynetdicom import evt
from pynetdicom.association import Association

from .admission import Memory
from .c_store_codec import Dimse
from .upper_layer import LOOK_SECONDS, Messages, Ringing, UpperLayer

LOG = logging.getLogger(__name__)


class Keeper(Protocol):
    """Who counts the associations that are open."""

    def left(self, assoc: Acceptor) -> None:
        """Be told that one has ended, in its thread."""


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
        self.seat = 0  # among the associations of the server's load
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._asked: dict[int, Callable[[int | None], None]] = {}

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` in this association's thread after so long, if it is established then.

        To be called in that thread too, i.e. by a handler.
        """
        self._later.append((time.monotonic() + seconds, act))

    def ask(self, primitive: Any, context_id: int, on_response: Callable[[int | None], None]) -> None:
        """Send a request of this side's own, in this association's thread; the status comes to `on_response`.

        pynetdicom's ``send_n_event_report`` takes whatever message comes next for its response; but a peer may
        send a request of its own meanwhile.
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
        """From the first byte to the last; the server counts this connection until then."""
        try:
            super().run_reactor()
        finally:
            self._keeper.left(self)

    def _bind_defaults(self) -> None:
        """Without those that write every PDU to a log."""
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def _run_reactor(self) -> None:
        """As pynetdicom's, which sleeps 1 ms instead of waiting."""
        while not self._kill:
            self._is_paused = True
            self._woken.wait(LOOK_SECONDS)
            self._woken.clear()
            self._reactor_checkpoint.wait()
            self._is_paused = False
            context_id, message = self.dimse.get_msg(block=False)
            if message is not None and context_id is not None:
                self._woken.set()  # look again afterwards: what else came was told once
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
