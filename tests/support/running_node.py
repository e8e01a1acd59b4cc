"""A node in this process, until something has happened in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node_values import quick_run

from dicom_node.node.node import Node
from dicom_node.node.status import Status, status
from dicom_node.settings.config import Config, ReceiveSettings


def config(tmp_path: Path, **changes: Any) -> Config:
    receive = ReceiveSettings(port=0, quiet_seconds=0.4, min_free_mb=1)
    return Config(storage=tmp_path / "storage", tick_seconds=0.05, receive=receive, **changes)


@contextmanager
def running(settings: Config, run: Callable[..., None] = quick_run) -> Iterator[Node]:
    node = Node(settings, run=run)
    node.start()
    try:
        yield node
    finally:
        node.stop()


def until(node: Node, happened: Callable[[Status], object], seconds: float = 120.0) -> Status:
    """The node's status, once something has happened."""
    end = time.monotonic() + seconds
    while not happened(found := status(node.database)):
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


def done(count: int = 1) -> Callable[[Status], object]:
    return lambda found: [j.state for j in found.jobs].count("DONE") == count
