"""On the machine of a worker: one attempt of a job in a child process, watched until it ends or is not wanted any more.

An engine of several machines calls `attempt` with two numbers. Everything else comes from the configuration of this
machine, which the environment variable `DICOM_NODE_CONFIG` names, so that no password and no path crosses the network.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from ...errors import Rejected, Unavailable
from ...processes import end_group, how_ended
from ...settings.config import Config, read_config
from ...store.database import Database
from ...store.identity import join
from .. import attempts

#: The environment variable that names the configuration of this machine's workers.
VARIABLE = "DICOM_NODE_CONFIG"
#: Interval at which the database is asked whether the attempt is still wanted (s).
LOOK_SECONDS = 1.0
WORKER_LOST = "was lost with its worker"


def attempt(job_id: int, number: int) -> str:
    """Work on one attempt of a job, and return how its process ended; its verdict is in the database.

    Raises
    ------
    Rejected
        Where this machine's configuration cannot be used, or its storage is another one.
    Unavailable
        Where the database or the storage cannot be reached. Nothing has begun then.
    """
    path = os.environ.get(VARIABLE, "")
    if not path:
        raise Rejected(f"a worker on {socket.gethostname()} has no {VARIABLE}, the path of its configuration")
    config = read_config(Path(path))
    database = Database(config.database_url)
    try:
        join(config.layout, database)
        if not attempts.begun(database, job_id, number, f"{socket.gethostname()}:{os.getpid()}"):
            return WORKER_LOST
        return _watched(config, Path(path), database, (job_id, number))
    finally:
        database.close()


def words(which: tuple[int, int], path: Path) -> list[str]:
    """Return the command that works on an attempt by the configuration of a file."""
    return [sys.executable, "-m", "dicom_node.jobs.executors.child", *map(str, which), str(path)]


def _watched(config: Config, path: Path, database: Database, which: tuple[int, int]) -> str:
    """Run the child process to its end, or end it when the attempt is not wanted any more or takes too long."""
    # a subprocess: a worker of Dask is a daemon of multiprocessing, which may have no children of that kind.
    # Its standard input is a pipe that closes with this process, however this process ends.
    child = subprocess.Popen(words(which, path), stdin=subprocess.PIPE)
    end = time.monotonic() + 60 * config.jobs.max_minutes
    try:
        while True:
            try:
                return how_ended(child.wait(LOOK_SECONDS))
            except subprocess.TimeoutExpired:
                if time.monotonic() > end:
                    return f"ran longer than {config.jobs.max_minutes:g} minutes"
                if not _wanted(database, which):
                    return "was ended"
    finally:
        end_group(child.pid)
        child.wait()
        if child.stdin is not None:
            child.stdin.close()


def _wanted(database: Database, which: tuple[int, int]) -> bool:
    try:
        return attempts.is_wanted(database, *which)
    except Unavailable:  # the work may go on; its verdict is fenced by the attempt
        return True
