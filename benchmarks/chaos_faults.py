"""The faults of `chaos.py`: each begins something, and says how it is made well again."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from crowd import ATTACKS, Attackers
from wire import Fault as Wire

from dicom_node.dicom.decoding_limits import READER_BYTES
from dicom_node.errors import NodeError
from dicom_node.store.tables import delivery, result

if TYPE_CHECKING:
    from chaos import Site

Undo = Callable[[], None]
MEGABYTE = 1 << 20
#: Memory that the configuration gives a worker, MB: what tells workers from other children.
WORKER_MB = 4096
#: Open files that a node without handles is left with beyond those it has.
SPARE_HANDLES = 1


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Parameters
    ----------
    begin : callable
        Begins it and returns what ends it; None where it could not be done now.
    seconds : (float, float)
        The shortest and the longest time until it is ended.
    """

    begin: Callable[[Site, random.Random], Undo | None]
    seconds: tuple[float, float] = (0.0, 0.0)


def nothing() -> None:
    """End what is over by itself."""


def children(pid: int) -> dict[str, list[int]]:
    """Return a node's child processes by kind, which their memory limits tell."""
    kinds = {READER_BYTES: "reader", WORKER_MB << 20: "worker", resource.RLIM_INFINITY: "acceptor"}
    found: dict[str, list[int]] = {kind: [] for kind in kinds.values()}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (folder / "cmdline").read_bytes():
                limit, _ = resource.prlimit(int(folder.name), resource.RLIMIT_DATA)
                if limit in kinds:
                    found[kinds[limit]].append(int(folder.name))
    return found


def kill_child(kind: str) -> Callable[[Site, random.Random], Undo | None]:
    """Return a fault that kills a child of a kind."""

    def begin(site: Site, rng: random.Random) -> Undo | None:
        found = children(site.pid)[kind]
        if not found:
            return None
        with suppress(ProcessLookupError):
            os.kill(rng.choice(found), signal.SIGKILL)
        return nothing

    return begin


def kill_node(site: Site, rng: random.Random) -> Undo | None:
    """Kill the parent alone, all processes, or let them end well; whoever looks after the node starts it again."""
    how = rng.choice(["parent", "all", "SIGTERM"])
    with suppress(ProcessLookupError):
        if how == "all":
            subprocess.run(["pkill", "-KILL", "-s", str(site.pid)], check=False)
        else:
            os.kill(site.pid, signal.SIGKILL if how == "parent" else signal.SIGTERM)
    return nothing


def fill_disk(site: Site, rng: random.Random) -> Undo | None:
    """Leave at most 300 KB on the storage's disk."""
    ballast, rest = site.disk / "ballast", rng.randrange(0, 300_000)
    with ballast.open("wb") as file, suppress(OSError):
        while (free := os.statvfs(site.disk).f_bavail * os.statvfs(site.disk).f_frsize) > rest:
            file.write(bytes(min(4 * MEGABYTE, free - rest)))
            file.flush()
    return ballast.unlink


def unmount(name: str) -> Callable[[Site, random.Random], Undo | None]:
    """Return a fault that takes a mounted folder away; an empty folder stays in its place."""

    def begin(site: Site, _: random.Random) -> Undo | None:
        mount = site.mounts[name]
        mount.leave()
        return mount.come

    return begin


def lock_database(site: Site, _: random.Random) -> Undo | None:
    """Hold the write lock of SQLite as another program would."""
    path = site.storage / "node.db"
    if not path.exists():
        return None
    other = sqlite3.connect(path, isolation_level=None, timeout=20, check_same_thread=False)
    try:
        other.execute("BEGIN IMMEDIATE")
    except sqlite3.Error:
        other.close()
        return None
    return other.close  # rolls back


def stop_database(site: Site, _: random.Random) -> Undo | None:
    """Stop PostgreSQL as a crash does."""
    assert site.server is not None
    site.server.stop()
    return site.server.start


def read_only_database(site: Site, _: random.Random) -> Undo | None:
    """Make PostgreSQL refuse to write, as a standby does after a failover."""
    server = site.server
    assert server is not None
    if not server.read_only(True):
        return None

    def writable() -> None:
        while not server.read_only(False):  # another fault may have stopped it
            time.sleep(0.5)

    return writable


def damage_result(site: Site, rng: random.Random) -> Undo | None:
    """Cut, empty, change or remove a file of a result that is still to be sent."""
    query = sa.select(result.c.path).join(delivery).where(delivery.c.state == "QUEUED")
    try:
        with site.looking() as database, database.reading() as connection:
            paths = list(connection.scalars(query))
    except (NodeError, sa.exc.SQLAlchemyError):
        return None
    paths = [path for path in paths if (site.storage / path).is_file()]
    if not paths:
        return None
    path = site.storage / rng.choice(paths)
    with suppress(OSError):
        content = path.read_bytes()
        how = rng.choice(["cut", "empty", "changed", "removed"])
        if how == "removed":
            path.unlink()
        elif how == "changed":
            path.write_bytes(content[:-8] + bytes(8))
        else:
            path.write_bytes(content[: len(content) // 2] if how == "cut" else b"")
        return nothing
    return None


def no_handles(site: Site, _: random.Random) -> Undo | None:
    """Leave the node's own process without file handles, so that it can start no child."""
    pid = site.pid
    try:
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + SPARE_HANDLES, hard))
    except OSError:
        return None

    def undo() -> None:
        with suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

    return undo


def sick_pacs(site: Site, rng: random.Random) -> Undo | None:
    """Let the PACS reject, hang, cut connections off or lose its answers."""
    wire = rng.choice(
        [
            Wire(rejects=True),
            Wire(delay=1.0),
            Wire(cut_after=rng.randrange(200, 40_000)),
            Wire(loses_responses=True),
        ]
    )
    site.proxy.fault = lambda _: wire

    def undo() -> None:
        site.proxy.fault = lambda _: Wire()

    return undo


def neighbours(site: Site, rng: random.Random) -> Undo | None:
    """Let hosts do one of the attacks of `crowd.py`."""
    attackers = Attackers(ATTACKS[rng.choice([name for name in ATTACKS if "no peer" not in name])], site.port)
    attackers.start()
    return attackers.stop


def garbage(site: Site, rng: random.Random) -> Undo | None:
    """Send bytes that are no DICOM."""
    for _ in range(20):
        with suppress(OSError), socket.create_connection(("127.0.0.1", site.port), 2) as one:
            one.sendall(rng.randbytes(rng.randrange(1, 4000)))
            time.sleep(0.02)
    return nothing


def hostile_images(site: Site, rng: random.Random) -> Undo | None:
    """Send images whose headers hold what no database, log or terminal may take as it is."""
    site.send_hostile(rng)
    return nothing


#: The faults of every node, by name.
FAULTS: Mapping[str, Fault] = {
    "worker killed": Fault(kill_child("worker")),
    "header reader killed": Fault(kill_child("reader")),
    "acceptor killed": Fault(kill_child("acceptor")),
    "node killed or stopped": Fault(kill_node),
    "no file handles": Fault(no_handles, (3, 15)),
    "disk full": Fault(fill_disk, (3, 20)),
    "storage away": Fault(unmount("storage"), (1, 12)),
    "folder of a destination away": Fault(unmount("shelf"), (1, 20)),
    "result damaged": Fault(damage_result),
    "PACS sick": Fault(sick_pacs, (5, 30)),
    "hostile neighbours": Fault(neighbours, (3, 15)),
    "bytes that are no DICOM": Fault(garbage),
    "hostile headers": Fault(hostile_images),
}
#: The faults of each database besides.
OF_DATABASE: Mapping[str, Mapping[str, Fault]] = {
    "sqlite": {"database locked": Fault(lock_database, (1, 40))},
    "postgresql": {
        "database stopped": Fault(stop_database, (1, 20)),
        "database read-only": Fault(read_only_database, (2, 20)),
    },
}
