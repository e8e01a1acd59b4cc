"""Progress of long commands on stderr: bars on a terminal, and lines now and then where it is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Report = Callable[[str, float], None]

#: Where stderr is no terminal, a stage that lasts is told again after so many seconds.
LINE_SECONDS = 15.0
SHARE = BarColumn(40), TextColumn("{task.percentage:>4.0f} %")


@contextmanager
def bars() -> Iterator[Report]:
    """Yield a callable (stage, share) that draws a bar on stderr for every stage as it begins."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Progress(
        TextColumn("{task.description:>22}"), *SHARE, TimeElapsedColumn(), console=console
    ) as drawn:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, share: float) -> None:
            if stage not in tasks:
                for earlier in tasks.values():
                    drawn.update(earlier, completed=1.0)
                    drawn.stop_task(earlier)
                tasks[stage] = drawn.add_task(stage, total=1.0)
            drawn.update(tasks[stage], completed=share)

        yield report
        for task in tasks.values():
            drawn.update(task, completed=1.0)


@contextmanager
def one_bar(share_done: Callable[[str, float], float]) -> Iterator[Report]:
    """Yield a callable (stage, share) that draws one bar for the whole work; it never goes back.

    Parameters
    ----------
    share_done : callable
        Stage and share of the stage -> share of the whole work, 0…1.
    """
    furthest = 0.0

    def whole(stage: str, share: float) -> float:
        nonlocal furthest
        furthest = max(furthest, share_done(stage, share))
        return furthest

    console = Console(stderr=True)
    if not console.is_terminal:
        lines = _Lines(console)
        yield lambda stage, share: lines(stage, whole(stage, share))
        return
    columns = TextColumn("{task.description:>14}"), *SHARE, TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as drawn:
        task = drawn.add_task("", total=1.0)
        yield lambda stage, share: drawn.update(task, description=stage, completed=whole(stage, share))
        drawn.update(task, completed=1.0)


@contextmanager
def counted(total: int, words: str) -> Iterator[Callable[[str], None]]:
    """Yield a callable, called when one of ``total`` things is done, that shows number, rate and time left.

    Parameters
    ----------
    total : int
    words : str
        What is counted, e.g. "cases".
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Counted(console, total, words)
        return
    rate = TextColumn("{task.fields[rate]}")
    columns = (
        TextColumn(words),
        BarColumn(30),
        MofNCompleteColumn(),
        rate,
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    begin, done = time.monotonic(), 0
    with Progress(*columns, console=console, speed_estimate_period=3600.0) as drawn:
        task = drawn.add_task("", total=total, rate="")

        def one(note: str) -> None:
            nonlocal done
            done += 1
            drawn.update(task, advance=1, description=note, rate=rate_words(done, time.monotonic() - begin))

        yield one


def rate_words(done: int, seconds: float) -> str:
    """Return how fast things get done.

    Examples
    --------
    >>> rate_words(30, 3600.0), rate_words(600, 60.0)
    ('30 an hour', '10.0 a second')
    """
    each = done / max(seconds, 1e-9)
    if each >= 1:
        return f"{each:.1f} a second"
    return f"{60 * each:.1f} a minute" if each >= 1 / 60 else f"{3600 * each:.0f} an hour"


class _Lines:
    """Write a line for every new stage, and again where one lasts."""

    def __init__(self, console: Console) -> None:
        self._console, self._stage, self._at = console, "", -LINE_SECONDS
        self._begin = time.monotonic()

    def __call__(self, stage: str, share: float) -> None:
        now = time.monotonic()
        if stage == self._stage and now - self._at < LINE_SECONDS:
            return
        self._stage, self._at = stage, now
        passed = timedelta(seconds=round(now - self._begin))
        self._console.print(f"{passed} {stage} {share:.0%}", soft_wrap=True, highlight=False)


class _Counted:
    """Write a line with number, rate and time left at most every `LINE_SECONDS`, and at the end."""

    def __init__(self, console: Console, total: int, words: str) -> None:
        self._console, self._total, self._words = console, total, words
        self._begin, self._at, self._done = time.monotonic(), 0.0, 0

    def __call__(self, note: str) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._at < LINE_SECONDS and self._done < self._total:
            return
        self._at, passed = now, now - self._begin
        left = timedelta(seconds=round(passed / self._done * (self._total - self._done)))
        self._console.print(
            f"{self._done}/{self._total} {self._words}, {rate_words(self._done, passed)}, {left} left"
            + (f", {note}" if note else ""),
            soft_wrap=True,
            highlight=False,
        )
