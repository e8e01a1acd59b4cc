"""What the node asks of an engine, whichever it is."""

from __future__ import annotations

from typing import Protocol

from ...processes import Ended
from ..order import Order


class Executor(Protocol):
    """Works on orders, several at a time, and forgets none until it is told to."""

    @property
    def free(self) -> int:
        """Return how many more orders can start now."""

    @property
    def orders(self) -> list[Order]:
        """Return the orders that are being worked on."""

    def start(self, order: Order) -> None:
        """Begin to work on an order.

        Raises
        ------
        Unavailable
            Where it cannot begin now.
        """

    def end(self, order: Order) -> None:
        """End the work on one order; `ended` then lists it."""

    def ended(self) -> list[Ended[Order]]:
        """Return the orders whose work has ended, each until `forget` is called for it."""

    def forget(self, order: Order) -> None:
        """Stop listing an order whose end has been recorded."""

    def stop(self) -> list[Order]:
        """End the work on all orders and return them."""
