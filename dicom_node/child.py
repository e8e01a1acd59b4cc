"""What a child process does first: end when the node ends (also by kill -9), and give way to receiving."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path


def begin(
    prepare: Callable[[], None] | None = None, nice: int = 0, memory: int = resource.RLIM_INFINITY
) -> None:
    """Set up this child process.

    Parameters
    ----------
    prepare : callable, optional
        E.g. configures the log.
    nice : int
        Added to the niceness; positive also offers this process to the out-of-memory killer before the node.
    memory : int
        Bytes this process may allocate; more is a MemoryError.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the node, which then ends its children
        signal.signal(number, signal.SIG_IGN)
    if prepare is not None:
        prepare()
    if nice > 0:
        os.nice(nice)
        with suppress(OSError):  # Linux only
            Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.RLIM_INFINITY))
    threading.Thread(target=_end_with_parent, daemon=True, name="end-with-parent").start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
