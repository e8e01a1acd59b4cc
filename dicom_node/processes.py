"""Child processes: started, watched, ended with the node, and what each of them does first."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar

Task = TypeVar("Task")


@dataclass(frozen=True)
class Ended(Generic[Task]):
    """An order whose process has ended, and how."""

    order: Task
    how: str


class Crew(Generic[Task]):
    """Processes of running orders.

    Parameters
    ----------
    run : callable
        A module's function (it is pickled by name), given the order in a process of its own.
    size : int
        Processes at one time.
    """

    def __init__(self, run: Callable[[Task], None], size: int) -> None:
        self._run, self._size = run, size
        # read by OpenMP in the processes: waiting threads that spin cost five times the time on busy cores
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self._running: list[tuple[BaseProcess, Task]] = []

    @property
    def free(self) -> int:
        """How many more orders can start."""
        return self._size - len(self._running)

    def start(self, order: Task) -> None:
        """Run an order in a new process (spawned: threads and locks of the node stay out of it)."""
        process = get_context("spawn").Process(target=self._run, args=(order,), name="worker")
        process.start()
        self._running.append((process, order))

    @property
    def orders(self) -> list[Task]:
        """What is being worked on."""
        return [order for _, order in self._running]

    def end(self, order: Task) -> None:
        """End the process of one order; `ended` names it then."""
        for process, own in self._running:
            if own is order:
                process.kill()
                process.join()

    def ended(self) -> list[Ended[Task]]:
        """Orders whose process ended since the last call; whether with a verdict, the database knows."""
        over = [(p, order) for p, order in self._running if not p.is_alive()]
        self._running = [(p, order) for p, order in self._running if (p, order) not in over]
        return [Ended(order, _how(p.exitcode or 0)) for p, order in over]

    def stop(self) -> list[Task]:
        """End all processes at once; returns their orders."""
        for process, _ in self._running:
            process.kill()
        for process, _ in self._running:
            process.join()
        orders = [order for _, order in self._running]
        self._running = []
        return orders


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


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
