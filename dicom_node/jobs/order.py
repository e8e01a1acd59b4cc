"""The order to work on one attempt of a job: what a worker's process is told, and the function that it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analysis.parameters import PictureStyle

from ..processes import begin
from ..settings.config import Config


@dataclass(frozen=True)
class Order:
    """The arguments of a worker process; `identity` is that of the node's database, see `Database`."""

    database_url: str
    storage: Path
    job_id: int
    attempt: int
    destinations: tuple[tuple[str, tuple[str, ...]], ...]
    nice: int
    memory_mb: int
    lobes_command: tuple[str, ...]
    style: PictureStyle
    prepare: Callable[[], None] | None
    identity: str = ""


def order_of(
    config: Config, job_id: int, attempt: int, prepare: Callable[[], None] | None, identity: str = ""
) -> Order:
    """Return the order to work on an attempt of a job by the settings of this machine."""
    return Order(
        database_url=config.database_url,
        storage=config.storage,
        job_id=job_id,
        attempt=attempt,
        destinations=tuple((d.name, d.objects) for d in config.destinations),
        nice=config.jobs.nice,
        memory_mb=config.jobs.memory_mb,
        lobes_command=config.jobs.lobes_command,
        style=config.pictures,
        prepare=prepare,
        identity=identity,
    )


def run(order: Order) -> None:
    """Run one job until it has a verdict (the target of the worker process).

    The analysis is imported here and nowhere above: a node that waits for images needs none of its libraries.
    """
    begin(order.prepare, order.nice, order.memory_mb << 20)
    from .worker import work

    work(order)
