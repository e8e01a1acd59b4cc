"""Calls of several threads -> one call for all that wait, so that they share its cost, e.g. of an fsync."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import Unavailable

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class _Waiting(Generic[T, R]):
    item: T
    results: Sequence[R] = ()
    error: Exception | None = None


class GroupCommit(Generic[T, R]):
    """A function of one item that commits the items of all threads that wait in it together.

    Parameters
    ----------
    commit : callable
        Takes items and returns a result for each; it is called by one thread at a time.

    Examples
    --------
    >>> GroupCommit(lambda items: [item + 1 for item in items])(1)
    2
    """

    def __init__(self, commit: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._commit = commit
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._waiting: list[_Waiting[T, R]] = []

    def __call__(self, item: T) -> R:
        """Return the result of one item once its group is committed; raise what `commit` raised."""
        mine: _Waiting[T, R] = _Waiting(item)
        with self._lock:
            self._waiting.append(mine)
        with self._turn:  # the thread that has the turn commits for those that wait, which then find it done
            if not mine.results and mine.error is None:
                with self._lock:
                    group, self._waiting = self._waiting, []
                self._commit_all(group)
        if mine.error is not None:
            raise mine.error
        return mine.results[0]

    def _commit_all(self, group: list[_Waiting[T, R]]) -> None:
        try:
            results = self._commit([one.item for one in group])
        except Exception as error:  # noqa: BLE001  raised in the threads whose items these are
            if len(group) > 1 and not isinstance(error, Unavailable):
                for one in group:  # one item that cannot be committed must not fail the others
                    self._commit_all([one])
                return
            for one in group:
                one.error = error
        else:
            for one, result in zip(group, results, strict=True):
                one.results = (result,)
