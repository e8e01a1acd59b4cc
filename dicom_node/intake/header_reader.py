"""Files -> headers, read in a separate process, so that hostile bytes crash or hang it and not the node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as Late
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Generic, TypeVar

from ..dicom.decoding_limits import READER_BYTES
from ..errors import Rejected, Unavailable
from ..processes import begin
from ..store.unread import CRASHES, HANGS, UNREACHABLE

#: Niceness of the process: receiving images goes before reading the headers of stored ones.
NICE = 19
#: Number of files handed over at one time, since each hand-over takes as long as a file.
TOGETHER = 16
#: Time limit of the process's start, for which no file is to blame (s).
START_S = 120.0
T = TypeVar("T")


class Reader(Generic[T]):
    """A reader of untrusted files in a process of its own, replaced when it dies or hangs.

    Parameters
    ----------
    read : callable
        A module's function (it is pickled by name): path -> value; raises `Rejected` for an unreadable file.
    prepare : callable, optional
        Called first in the process, e.g. to configure its log.
    timeout : float
        Time limit of `TOGETHER` files, and of one file alone (s); the start of the process has `START_S`.
    """

    def __init__(
        self, read: Callable[[Path], T], prepare: Callable[[], None] | None = None, timeout: float = 60.0
    ) -> None:
        self._read, self._prepare, self._timeout = read, prepare, timeout
        self._pool: ProcessPoolExecutor | None = None
        self._closed = False

    def start(self) -> None:
        """Start the process before the first file arrives, so that its start does not slow receiving down."""
        self._running().submit(_ready, self._read)

    def read_all(self, paths: Iterable[Path]) -> list[T | str]:
        """Return the value read of each file, or one sentence that says why it cannot be read.

        Raises
        ------
        Unavailable
            Where the reader was closed meanwhile or does not start, for which no file is to blame.
        """
        if self._closed:
            raise Unavailable("the reader of headers is closed")
        waiting = list(paths)
        values: list[T | str] = []
        while len(values) < len(waiting):
            values += self._read_some(waiting[len(values) :])
        return values

    def close(self) -> None:
        """End the process at once and for good."""
        self._closed = True
        self._end()

    def _running(self) -> ProcessPoolExecutor:
        if self._pool is None:
            start = self._prepare, NICE, READER_BYTES
            self._pool = ProcessPoolExecutor(1, get_context("spawn"), begin, start)
        return self._pool

    def _end(self) -> None:
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()

    def _read_some(self, paths: list[Path]) -> list[T | str]:
        """Read until the process dies or hangs; then try its files again one by one to find the cause."""
        pool, values = self._running(), list[T | str]()
        try:
            pool.submit(_ready, self._read).result(START_S)
        except (BrokenProcessPool, Late) as error:
            self._end()
            raise Unavailable("the reader of headers is closed or does not start") from error
        try:
            parts = [paths[at : at + TOGETHER] for at in range(0, len(paths), TOGETHER)]
            for future in [pool.submit(_attempt_all, self._read, part) for part in parts]:
                values += future.result(self._timeout)
        except (BrokenProcessPool, Late) as error:
            self._end()
            if self._closed:
                raise Unavailable("the reader of headers is closed") from error
            if len(paths) > 1:
                for path in paths[len(values) :][:TOGETHER]:
                    values += self._read_some([path])
                return values
            values.append(HANGS if isinstance(error, Late) else CRASHES)
        return values


def _ready(read: Callable[[Path], T]) -> None:
    """Do nothing: this task is done once the process has started and has imported the module of `read`."""


def _attempt_all(read: Callable[[Path], T], paths: list[Path]) -> list[T | str]:
    return [_attempt(read, path) for path in paths]


def _attempt(read: Callable[[Path], T], path: Path) -> T | str:
    try:
        return read(path)
    except Rejected as error:
        return str(error)
    except OSError as error:
        if error.errno is None:  # pydicom raises these for bytes that are not DICOM
            return f"the file cannot be read ({type(error).__name__})"
        return UNREACHABLE
    except Exception as error:  # noqa: BLE001  the boundary to hostile data: any failure is this file's
        return f"the file cannot be read ({type(error).__name__})"
