"""What both sides of an association need of pynetdicom: sizes, and two of its faults mended."""

from __future__ import annotations

import socket
from typing import Any

MAXIMUM_PDU = 128 * 1024


def no_delay(event: Any) -> None:
    """Send small PDUs at once (handler of EVT_CONN_OPEN); Nagle's algorithm costs 40 ms an image."""
    connection = event.assoc.dul.socket.socket
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def keep_responses(assoc: Any) -> None:
    """Keep an SCU's reactor thread from taking the responses that `send_c_store` waits for.

    Under load the thread wins that race now and then, and a stored object looks like a time-out (pynetdicom
    3.0.4, issues 351 and 435). Only the reactor asks without blocking, and an SCU has no requests to serve.
    """
    take = assoc.dimse.get_msg

    def get_msg(block: bool = False) -> Any:
        return take(block=True) if block else (None, None)

    assoc.dimse.get_msg = get_msg
