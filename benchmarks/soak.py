"""Thousands of associations: a part of `faults.py`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from fuzz import POOL_HANDLES, Process, acceptors, holds
from receive import free_port
from serving import ENVIRONMENT, Outcome, answers, start
from wire import Proxy

from analysis.volume import Grid, Volume
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.store.database import Database
from dicom_node.store.tables import instance

#: Status (0000,0900) of a response, PS3.7 9.3.1.2, and its value for success.
STORED = b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00"
CLIENTS = 16
#: SOP Instance UID of the slice that is sent; its last part is another number in every association.
ROOT, FIRST = b"1.2.3.4.5.", 10_000_000
#: Growth from the first tenth on that is no leak, MB: caches of the database's connections, fragments.
GROWTH_MB = 48


def soak(folder: Path, associations: int) -> Outcome:
    """Associations with a C-STORE of a new instance each; what the processes hold before and after."""
    folder.mkdir()
    port, config = free_port(), folder / "node.toml"
    config.write_text(
        f"[receive]\nport = {port}\nmin_free_mb = 1\nquiet_seconds = 36000\n"
        "associations_per_minute = 1000000000\n"
    )
    node = start(config, folder)
    try:
        answers(port)
        spoken = conversation(port, folder)
        tenth = associations // 10
        stored = 1 + talk_all(port, spoken, range(1, tenth))  # storescu's own
        before = held(node.pid)
        stored += talk_all(port, spoken, range(tenth, associations))
        after = held(node.pid)
    finally:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()
    database = Database(f"sqlite:///{folder / 'dicom-node-data' / 'node.db'}")
    with database.reading() as connection:
        rows = connection.scalar(sa.select(sa.func.count()).select_from(instance)) or 0
    database.close()
    what = f"{associations} associations; from the {tenth}th on: " + "; ".join(
        f"{was.memory_mb:.0f} -> {now.memory_mb:.0f} MB, {was.threads} -> {now.threads} threads, "
        f"{was.handles} -> {now.handles} handles"
        for was, now in zip(before, after, strict=True)
    )
    for was, now in zip(before, after, strict=True):
        assert now.threads <= was.threads + 1, what
        assert now.handles <= was.handles + POOL_HANDLES, what
        assert now.memory_mb < was.memory_mb + GROWTH_MB, what
    return Outcome("soak", what, stored, max(0, stored - rows), max(0, rows - associations), 0)


def conversation(port: int, folder: Path) -> list[bytes]:
    """The requestor's turns of a real storescu that sends one small slice."""
    uid = f"{ROOT.decode()}{FIRST}"
    volume = Volume(
        np.arange(512, dtype=np.int16).reshape(2, 16, 16), Grid.axial((2, 16, 16), (5.0, 4.0, 4.0))
    )
    path = write_ct_series(volume, folder, Scan("soak", "soak", attributes={"SOPInstanceUID": uid}))[0]
    proxy = Proxy(port)
    command = ["storescu", "-aec", "VQNODE", "127.0.0.1", str(proxy.port), str(path)]
    subprocess.run(command, env=ENVIRONMENT, check=True)
    proxy.close()
    return [b"".join(turn) for turn in proxy.recordings[0].requests]


def talk_all(port: int, spoken: list[bytes], numbers: Iterable[int]) -> int:
    """Associations, `CLIENTS` at a time; how many instances were acknowledged."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(lambda n: talk(port, spoken, n), numbers))


def talk(port: int, spoken: list[bytes], number: int) -> bool:
    """One association; True where its instance was acknowledged."""
    was, uid, thanked = ROOT + b"%d" % FIRST, ROOT + b"%d" % (FIRST + number), False
    with socket.create_connection(("127.0.0.1", port)) as connection, suppress(TimeoutError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(60)
        for turn in spoken:
            connection.sendall(turn.replace(was, uid))
            thanked |= STORED in connection.recv(65536)
    return thanked


def held(node: int) -> list[Process]:
    """What the node's processes hold: those that receive, then the node's own; after a moment of peace."""
    time.sleep(10.0)
    return [*acceptors(node), holds(node)]
