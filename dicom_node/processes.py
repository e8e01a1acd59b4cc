"""Child processes: started within limits of time and memory, watched, and ended with everything they started.

Each child leads a process group of its own. Every program it starts belongs to that group and is killed with it, even
where the child itself was killed first. (Not a session: Linux schedules each session as one group, and niceness would
count only within it.)
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
    """An order whose process has ended, and how the process ended.

    Parameters
    ----------
    blames : bool
        True where the order itself may be the cause; False where it may be tried again at no cost.
    """

    order: Task
    how: str
    blames: bool = True


@dataclass(frozen=True)
class _Running(Generic[Task]):
    """A process, its order, and the time at which it is killed (`time.monotonic`, s)."""

    process: BaseProcess
    order: Task
    deadline: float


class Crew(Generic[Task]):
    """A crew of child processes, each working on one order.

    Parameters
    ----------
    run : callable
        Function of a module (it is pickled by name) that is called with the order in a process of its own.
    size : int
        Most processes at one time.
    seconds : float
        Time limit of each process (s).
    """

    def __init__(self, run: Callable[[Task], None], size: int, seconds: float) -> None:
        self._run, self._size, self._seconds = run, size, seconds
        # OpenMP in the processes reads this: on busy cores, threads that spin while waiting take five times as long
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self._running: list[_Running[Task]] = []
        self._late: set[int] = set()

    @property
    def free(self) -> int:
        """Return how many more orders can start."""
        return self._size - len(self._running)

    def start(self, order: Task) -> None:
        """Run an order in a new process, spawned so that it inherits no threads or locks of the node.

        Raises
        ------
        Unavailable
            Where the system cannot start another process now.
        """
        process = get_context("spawn").Process(target=self._run, args=(order,), name="worker")
        try:
            process.start()
        except OSError as error:
            raise Unavailable(f"no worker process can be started: {error.strerror}") from error
        self._running.append(_Running(process, order, time.monotonic() + self._seconds))

    @property
    def orders(self) -> list[Task]:
        """Return the orders that are being worked on."""
        return [one.order for one in self._running]

    def end(self, order: Task) -> None:
        """End the process of one order and everything it started; `ended` then lists the order."""
        for one in self._running:
            if one.order is order:
                _kill(one.process)

    def ended(self) -> list[Ended[Task]]:
        """Return the orders whose process has ended, and kill those that ran too long.

        An order is listed until `forget` is called for it. Whether it reached a verdict is recorded in the database.
        """
        now, over = time.monotonic(), []
        for one in self._running:
            if one.process.is_alive() and now > one.deadline:
                self._late.add(id(one))
                _kill(one.process)
            if not one.process.is_alive():
                _kill(one.process)  # processes that it started may live on
                late = f"ran longer than {self._seconds / 60:g} minutes" if id(one) in self._late else ""
                over.append(Ended(one.order, late or how_ended(one.process.exitcode or 0)))
        return over

    def forget(self, order: Task) -> None:
        """Stop listing an order whose end has been recorded."""
        self._running = [one for one in self._running if one.order is not order]

    def stop(self) -> list[Task]:
        """End all processes at once and return their orders."""
        for one in self._running:
            _kill(one.process)
        orders, self._running = self.orders, []
        return orders


def begin(
    prepare: Callable[[], None] | None = None,
    nice: int = 0,
    memory: int = resource.RLIM_INFINITY,
    parent: int | None = None,
) -> None:
    """Set up this child process with a group of its own, so that it ends with the node and yields to receiving.

    Parameters
    ----------
    prepare : callable, optional
        Called in this process, e.g. to configure its log.
    nice : int
        Added to the niceness; a positive value also makes the out-of-memory killer prefer this process to the node.
    memory : int
        Most memory that this process may allocate (bytes); beyond it a MemoryError is raised.
    parent : int, optional
        Descriptor of a pipe that closes when the parent ends; a child of `multiprocessing` knows its parent anyway.
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
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True, name="end-with-parent").start()


def run_program(words: Sequence[str], seconds: float) -> int:
    """Run a program that the user configured and return its exit code; its output is not kept.

    Parameters
    ----------
    words : sequence of str
        The program and its arguments; no shell reads them.
    seconds : float
        Time limit (s); after it the program is killed, with everything it started.

    Raises
    ------
    Rejected
        Where the program cannot be started or runs too long.
    """
    none = subprocess.DEVNULL
    try:
        # it belongs to this process's group and is killed with it
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


def end_group(leader: int) -> None:
    """Kill a process and every process of the group that it leads, or led before it ended."""
    for pid in [*_group(leader), leader]:
        _signal(pid)


def _end_with_parent(pipe: int | None) -> None:
    parent = parent_process()
    ends = pipe if pipe is not None else None if parent is None else parent.sentinel
    if ends is not None:
        wait([ends])
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
    """Return the processes of the group that `leader` leads, or led before it ended."""
    return [pid for pid, (_, group) in _processes() if group == leader]


def _descendants(ancestor: int) -> list[int]:
    """Return the processes that `ancestor` started, and those that they started in turn."""
    parents = {pid: parent for pid, (parent, _) in _processes()}
    found = [ancestor]
    for one in found:
        found += [pid for pid, parent in parents.items() if parent == one]
    return found[1:]


def _processes() -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield each process with its parent and its group (proc(5): the second and third field after the name)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            yield int(stat.parent.name), (int(fields[1]), int(fields[2]))


def how_ended(code: int) -> str:
    """Return how a process ended, from its exit code as `subprocess` and `multiprocessing` give it."""
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
