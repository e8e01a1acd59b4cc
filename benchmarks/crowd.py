"""Hosts that shut others out, and a scanner that must get in: ``python benchmarks/crowd.py`` (needs dcmtk, Linux).

Each part has attackers, on 127.0.0.1 as the scanner or on 127.0.0.2, that keep what they do going; meanwhile dcmtk's
storescu sends one image at a time, each over an association of its own. Printed is how many of them were thanked for,
and how long one took. The exit code is 1 where any was not.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bombs import file_of, slice_of
from receive import free_port
from serving import ENVIRONMENT, answers, start

#: How often the scanner sends, and how many connections of attackers are open.
SENDS, CONNECTIONS = 164, 262
#: So long before the scanner begins the attackers have the node for themselves, seconds.
HEAD_START_SECONDS = 3.0
#: Pause of an attacker who was turned away, seconds.
AGAIN_SECONDS = 0.05
SAME, OTHER = "127.0.0.1", "127.0.0.2"


def request(contexts: int = 1, syntaxes: int = 1, title: str = "EVIL") -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2)."""

    def item(kind: int, body: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(body)) + body

    # UIDs as long as they can be: they are what takes the time
    transfer = item(0x40, b"1.2.840.10008.1.2.1") + (syntaxes - 1) * item(0x40, b"1.2.3." + 58 * b"4")
    abstract = item(0x30, b"1.2.840.10008.5.1.4.1.1.2")
    proposed = b"".join(
        item(0x20, bytes([2 * n % 256 + 1, 0, 0, 0]) + abstract + transfer) for n in range(contexts)
    )
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4"))
    body = struct.pack(">HH16s16s32x", 1, 0, b"VQNODE".ljust(16), title.encode().ljust(16))
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + proposed + user
    return struct.pack(">BxL", 1, len(body)) + body


@dataclass(frozen=True)
class Attack:
    """What attackers do.

    Parameters
    ----------
    address : str
        Where they are.
    connections : int
        Of all of them, at one time.
    act : callable
        With one connection, until it is closed or this returns.
    settings : str
        Lines of ``[receive]``.
    """

    address: str
    connections: int
    act: Callable[[socket.socket], None]
    settings: str = ""


def hold(connection: socket.socket) -> None:
    """Wait until the other side closes."""
    while connection.recv(4096):
        pass


def half(connection: socket.socket) -> None:
    """Say half of a request."""
    connection.sendall(request()[:40])
    hold(connection)


def trickle(connection: socket.socket) -> None:
    """Say a request a byte at a time."""
    connection.settimeout(4.0)
    for at in range(len(request())):
        connection.sendall(request()[at : at + 1])
        with suppress(TimeoutError):
            if not connection.recv(1):
                return


def associate(connection: socket.socket) -> None:
    """Have an association, and say no more."""
    connection.sendall(request())
    hold(connection)


def long_request(connection: socket.socket) -> None:
    """Request as much as fits, 786 KB."""
    connection.sendall(LONG)
    hold(connection)


def nothing(connection: socket.socket) -> None:
    """Close at once."""


#: 128 contexts of 90 transfer syntaxes.
LONG = request(128, 90)
ATTACKS = {
    "half requests": Attack(SAME, CONNECTIONS, half),
    "half requests of another address": Attack(OTHER, CONNECTIONS, half),
    "silent connections": Attack(SAME, CONNECTIONS, hold),
    "a byte of a request every 4 s": Attack(SAME, CONNECTIONS, trickle),
    "associations that say nothing": Attack(OTHER, CONNECTIONS, associate),
    "requests of 786 KB": Attack(OTHER, 8, long_request),
    "connections that end at once": Attack(OTHER, 32, nothing),
    "all of it, of no peer": Attack(OTHER, CONNECTIONS, half, f'[[receive.peers]]\naddress = "{SAME}"\n'),
}


class Attackers:
    """Threads that each keep one connection going."""

    def __init__(self, attack: Attack, port: int) -> None:
        self._attack, self._port, self._stop = attack, port, threading.Event()
        self.made = 0
        self._threads = [threading.Thread(target=self._go_on, daemon=True) for _ in range(attack.connections)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no other connection."""
        self._stop.set()

    def _go_on(self) -> None:
        where = ("127.0.0.1", self._port)
        while not self._stop.is_set():
            with suppress(OSError), socket.create_connection(where, 10, (self._attack.address, 0)) as one:
                one.settimeout(None)
                self.made += 1
                self._attack.act(one)
            self._stop.wait(AGAIN_SECONDS)


def send(port: int, path: Path) -> tuple[bool, float]:
    """One storescu: whether it was thanked, and seconds."""
    begin = time.perf_counter()
    command = [
        "storescu",
        "-to",
        "10",
        "-ta",
        "10",
        "-td",
        "10",
        "-aec",
        "VQNODE",
        "127.0.0.1",
        str(port),
        str(path),
    ]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False)
    return done.returncode == 0, time.perf_counter() - begin


def run(name: str, attack: Attack | None, sends: int, folder: Path) -> bool:
    """One part, with a node of its own; whether every image was taken."""
    port, path = free_port(), folder / "image.dcm"
    path.write_bytes(file_of(slice_of(side=64)))
    config = folder / "node.toml"
    peers = attack.settings if attack is not None else ""
    config.write_text(f"[receive]\nport = {port}\nmin_free_mb = 1\nquiet_seconds = 3600\n{peers}")
    node = start(config, folder)
    try:
        answers(port)
        attackers = Attackers(attack, port) if attack is not None else None
        if attackers is not None:
            attackers.start()
            time.sleep(HEAD_START_SECONDS)
        found = [send(port, path) for _ in range(sends)]
        if attackers is not None:
            attackers.stop()
    finally:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()
    taken = sum(well for well, _ in found)
    times = sorted(seconds for _, seconds in found)
    made = 0 if attackers is None else attackers.made
    print(
        f"| {name} | {taken} of {sends} | {statistics.median(times) * 1000:.0f} ms | {times[-1] * 1000:.0f} ms "
        f"| {made} |",
        flush=True,
    )
    return taken == sends


def main() -> int:
    """Run the parts and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sends", type=int, default=SENDS, help="of the scanner, in each part")
    parser.add_argument("--parts", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    options = parser.parse_args()
    print(
        "| attackers | images taken | one takes | at most | connections of attackers |\n|---|---|---|---|---|"
    )
    well = True
    for name in ("none", *options.parts):
        with tempfile.TemporaryDirectory(prefix="crowd-") as folder:
            well &= run(name, ATTACKS.get(name), options.sends, Path(folder))
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
