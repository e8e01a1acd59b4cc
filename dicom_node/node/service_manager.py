"""The state of the node -> the service manager, if there is one: ready, alive, stopping (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Send a state, e.g. ``READY=1`` or ``WATCHDOG=1``, to the socket that $NOTIFY_SOCKET names."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace of unix(7)
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)  # a manager that does not listen must not delay the node
        sender.connect(address)
        sender.sendall(state.encode())
