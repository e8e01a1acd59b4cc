"""An executor of child processes that live on from task to task: one that dies costs its own task and no other.

`concurrent.futures.ProcessPoolExecutor` breaks as a whole where one process is killed. Here every thread of the parent
has a child of its own, started as a program (a Dask worker may have no `multiprocessing` children), with a limit of
memory and a process group; the child ends, with all it started, when the parent is gone, however that ended.
"""

from __future__ import annotations

import os
import pickle
import queue
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from ..errors import Unavailable
from ..processes import begin

T = TypeVar("T")
MB = 1 << 20


class Died(Unavailable):
    """The process of a task ended before the task did."""


class Child:
    """A process that works on one order at a time.

    Parameters
    ----------
    memory_mb : int
        Most memory it may allocate, MB; 0 for no limit.
    """

    def __init__(self, memory_mb: int = 0) -> None:
        ours, theirs = socket.socketpair()
        code = f"from {__name__} import serve; serve({theirs.fileno()}, {memory_mb})"
        words = [sys.executable, "-c", code]
        paths = os.pathsep.join(path or "." for path in sys.path)
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": paths}
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,
                env=environment,
            )
        except OSError as error:
            raise Unavailable(f"no worker process can be started: {error.strerror}") from error
        finally:
            theirs.close()
        self._pipe = _connection(ours.detach())
        self._ending = threading.Lock()

    def call(self, work: Callable[..., T], *arguments: object) -> T:
        """Have the child call a function, and return what it returns or raise what it raises.

        Raises
        ------
        Died
            Where the child ends before it answers.
        """
        try:
            self._pipe.send_bytes(pickle.dumps((work, arguments)))
            well, value = self._pipe.recv()
        except (EOFError, OSError):
            self.end()
            code = self._process.returncode
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise Died(f"its process {how}") from None
        if not well:
            raise value
        return value

    def kill(self) -> None:
        """Kill the child and all that it started; any thread may do so, also while another one waits in `call`."""
        with self._ending:
            if self._process.returncode is None:  # its number may be another process's afterwards
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def end(self) -> None:
        """Kill the child and close the pipe to it: for the thread that calls it, which reads from the pipe."""
        self.kill()
        self._pipe.close()


def serve(descriptor: int, memory_mb: int) -> None:
    """Be a child: answer the orders that come through a pipe until its other end is closed."""
    begin(memory=memory_mb * MB if memory_mb else resource.RLIM_INFINITY)
    pipe = _connection(descriptor)
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, orders), daemon=True).start()
    while True:
        order = orders.get()
        try:
            work, arguments = pickle.loads(order)
            answer: tuple[bool, object] = True, work(*arguments)
        except Exception as error:  # noqa: BLE001  it is raised in the parent
            answer = False, _portable(error)
        pipe.send(answer)


def _connection(descriptor: int) -> Connection[Any, Any]:
    return Connection(descriptor)


def _listen(pipe: Connection[Any, Any], orders: queue.SimpleQueue[bytes]) -> None:
    try:
        while True:
            orders.put(pipe.recv_bytes())
    except (EOFError, OSError):  # the parent is gone
        os.killpg(0, signal.SIGKILL)


def _portable(error: Exception) -> Exception:
    """Return an error that can be unpickled elsewhere: itself, or one with its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  an error's own code may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class Workers(Executor):
    """Run tasks in child processes, one at a time in each.

    Parameters
    ----------
    size : int
        Number of children; each starts with its first task.
    memory_mb : int
        Limit of memory of each, MB; 0 for none.
    """

    def __init__(self, size: int, memory_mb: int = 0) -> None:
        self._memory_mb = memory_mb
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = (
            queue.SimpleQueue()
        )
        self._children: set[Child] = set()
        self._over = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(size)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Queue a call of a module's function; keyword arguments are not taken."""
        if kwargs:
            raise TypeError("only positional arguments are sent to a worker")
        future: Future[T] = Future()
        self._tasks.put((future, fn, args))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the children: when their tasks are done, or at once where these are to be cancelled."""
        if cancel_futures:
            with suppress(queue.Empty):
                while task := self._tasks.get_nowait():
                    task[0].cancel()
            self._over = True
            for child in list(self._children):
                child.kill()
        for _ in self._threads:
            self._tasks.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        child: Child | None = None
        while task := self._tasks.get():
            future, work, arguments = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if child is None:
                    child = Child(self._memory_mb)
                    self._children.add(child)
                    if self._over:  # `shutdown` may have looked before it was there
                        child.kill()
                future.set_result(child.call(work, *arguments))
            except Exception as error:  # noqa: BLE001  it belongs to the future
                if isinstance(error, Died) and child is not None:
                    self._children.discard(child)
                    child = None
                future.set_exception(error)
        if child is not None:
            self._children.discard(child)
            child.end()


_HERE = threading.local()


def in_child(memory_mb: int, work: Callable[..., T], *arguments: object) -> T:
    """Call a function in a child of this thread: what a worker of Dask runs, so that a case cannot end the worker."""
    if getattr(_HERE, "child", None) is None:
        _HERE.child = Child(memory_mb)
    try:
        return _HERE.child.call(work, *arguments)
    except Died:
        _HERE.child = None
        raise
