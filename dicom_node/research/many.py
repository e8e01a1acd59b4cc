"""Many cases over any `concurrent.futures.Executor` -> each with its result or its error, as it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from itertools import islice
from typing import TypeVar

Case = TypeVar("Case")
Made = TypeVar("Made")

#: Cases given to an executor at one time: enough for hundreds of workers, and memory stays flat.
AHEAD = 512


def run_many(
    cases: Iterable[Case], work: Callable[[Case], Made], executor: Executor, ahead: int = AHEAD
) -> Iterator[tuple[Case, Made | BaseException]]:
    """Work on many cases and yield each as it ends; one that fails does not stop the others.

    Parameters
    ----------
    cases : iterable
        Read only as far ahead as needed.
    work : callable
        Function of a module, which is pickled by its name.
    executor : concurrent.futures.Executor
        Threads, processes, machines.
    ahead : int
        Most cases that the executor has at one time.

    Yields
    ------
    case
    made : result of ``work``, or the error it raised

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as threads:
    ...     sorted(run_many([3, 1, 2], abs, threads))
    [(1, 1), (2, 2), (3, 3)]
    """
    remaining = iter(cases)
    waiting: dict[Future[Made], Case] = {}
    try:
        while True:
            for case in islice(remaining, ahead - len(waiting)):
                waiting[executor.submit(work, case)] = case
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                case = waiting.pop(future)
                error = future.exception()
                yield case, error if error is not None else future.result()
    finally:
        for future in waiting:
            future.cancel()
