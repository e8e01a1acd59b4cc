"""Calls of several threads -> one call for all that wait, so that they share its price, e.g. an fsync."""

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
    """A function of one item that does the items of all threads that call it meanwhile, at once.

    Parameters
    ----------
    commit : callable
        Items -> a result for each. Called by one thread at a time.

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
        """The result of one item, once its group is committed; raises what `commit` did."""
        mine: _Waiting[T, R] = _Waiting(item)
        with self._lock:
            self._waiting.append(mine)
        with self._turn:  # who has it commits for those that came meanwhile, who then find it done
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
        except Exception as error:  # noqa: BLE001  handed to those whose items these are
            if len(group) > 1 and not isinstance(error, Unavailable):
                for one in group:  # one that cannot be committed must not take the others with it
                    self._commit_all([one])
                return
            for one in group:
                one.error = error
        else:
            for one, result in zip(group, results, strict=True):
                one.results = (result,)
