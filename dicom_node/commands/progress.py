"""Progress of long commands on the terminal: one bar a stage, named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

Report = Callable[[str, float], None]


@contextmanager
def bars() -> Iterator[Report]:
    """Yield a callable (stage, share) that draws a bar on stderr for every stage as it begins."""
    columns = TextColumn("{task.description:>22}"), BarColumn(40), TextColumn("{task.percentage:>4.0f} %")
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as drawn:
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
