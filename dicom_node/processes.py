"""Child processes: started within limits of time and memory, watched, and ended with all that they started.

Each child leads a process group of its own: whatever it starts belongs to it, and is killed with it, also where the
child was killed first. (Not a session: Linux schedules sessions as groups, and niceness would count within one only.)
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar

from .errors import Rejected, Unavailable

Task = TypeVar("Task")


@dataclass(frozen=True)
class Ended(Generic[Task]):
    """An order whose process has ended, and how."""

    order: Task
    how: str


@dataclass(frozen=True)
class _Running(Generic[Task]):
    """A process, its order, and when its time is over (`time.monotonic`)."""

    process: BaseProcess
    order: Task
    deadline: float


class Crew(Generic[Task]):
    """Processes of running orders.

    Parameters
    ----------
    run : callable
        A module's function (it is pickled by name), given the order in a process of its own.
    size : int
        Processes at one time.
    seconds : float
        How long each may run (s).
    """

    def __init__(self, run: Callable[[Task], None], size: int, seconds: float) -> None:
        self._run, self._size, self._seconds = run, size, seconds
        # read by OpenMP in the processes: waiting threads that spin cost five times the time on busy cores
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self._running: list[_Running[Task]] = []
        self._late: set[int] = set()

    @property
    def free(self) -> int:
        """How many more orders can start."""
        return self._size - len(self._running)

    def start(self, order: Task) -> None:
        """Run an order in a new process (spawned: threads and locks of the node stay out of it).

        Raises
        ------
        Unavailable
            Where the system has no room for a further process now.
        """
        process = get_context("spawn").Process(target=self._run, args=(order,), name="worker")
        try:
            process.start()
        except OSError as error:
            raise Unavailable(f"no worker process can be started: {error.strerror}") from error
        self._running.append(_Running(process, order, time.monotonic() + self._seconds))

    @property
    def orders(self) -> list[Task]:
        """What is being worked on."""
        return [one.order for one in self._running]

    def end(self, order: Task) -> None:
        """End the process of one order, and all that it started; `ended` names it then."""
        for one in self._running:
            if one.order is order:
                _kill(one.process)

    def ended(self) -> list[Ended[Task]]:
        """Return the orders whose process ended, or ran too long and is killed.

        They are named until `forget` is called; whether they ended with a verdict, the database knows.
        """
        now, over = time.monotonic(), []
        for one in self._running:
            if one.process.is_alive() and now > one.deadline:
                self._late.add(id(one))
                _kill(one.process)
            if not one.process.is_alive():
                _kill(one.process)  # what it started may live on
                late = f"ran longer than {self._seconds / 60:g} minutes" if id(one) in self._late else ""
                over.append(Ended(one.order, late or _how(one.process.exitcode or 0)))
        return over

    def forget(self, order: Task) -> None:
        """Forget an order whose end was written down."""
        self._running = [one for one in self._running if one.order is not order]

    def stop(self) -> list[Task]:
        """End all processes at once; returns their orders."""
        for one in self._running:
            _kill(one.process)
        orders, self._running = self.orders, []
        return orders


def begin(
    prepare: Callable[[], None] | None = None, nice: int = 0, memory: int = resource.RLIM_INFINITY
) -> None:
    """Set up this child process: a group of its own, that ends with the node and gives way to receiving.

    Parameters
    ----------
    prepare : callable, optional
        E.g. configures the log.
    nice : int
        Added to the niceness; positive also offers this process to the out-of-memory killer before the node.
    memory : int
        Bytes this process may allocate; more is a MemoryError.
    """
    with suppress(PermissionError):  # it leads a session, and so a group, already
        os.setpgid(0, 0)
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


def run_program(words: Sequence[str], seconds: float) -> int:
    """Run a program of the user's to its end, and return its exit code; what it prints is not kept.

    Parameters
    ----------
    words : sequence of str
        The program and its arguments; no shell reads them.
    seconds : float
        How long it may run (s); then it is killed, with all that it started.

    Raises
    ------
    Rejected
        Where it cannot be started, or runs too long.
    """
    none = subprocess.DEVNULL
    try:
        # of this process's group: it dies with it
        program = subprocess.Popen(words, stdin=none, stdout=none, stderr=none)
    except OSError as error:
        raise Rejected(f"the program {words[0]} cannot be started: {error.strerror}") from error
    try:
        return program.wait(seconds)
    except subprocess.TimeoutExpired as error:
        raise Rejected(f"the program {words[0]} ran longer than {seconds / 60:g} minutes") from error
    finally:
        for pid in [*_descendants(program.pid), program.pid]:
            _signal(pid)
        program.wait()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        for pid in _group(os.getpid()):
            _signal(pid)
        os._exit(1)


def _kill(process: BaseProcess) -> None:
    """Kill a child and every process of its group."""
    process.kill()
    for pid in _group(process.pid or -1):
        _signal(pid)
    process.join()


def _signal(pid: int) -> None:
    if pid != os.getpid():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _group(leader: int) -> list[int]:
    """The processes of the group that a process leads, or led."""
    return [pid for pid, (_, group) in _processes() if group == leader]


def _descendants(ancestor: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    parents = {pid: parent for pid, (parent, _) in _processes()}
    found = [ancestor]
    for one in found:
        found += [pid for pid, parent in parents.items() if parent == one]
    return found[1:]


def _processes() -> Iterator[tuple[int, tuple[int, int]]]:
    """Each process with its parent and its group (proc(5): the second and third field after the name)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            yield int(stat.parent.name), (int(fields[1]), int(fields[2]))


def _how(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
