"""The node of `chaos.py`: ``dicom-node serve`` whose workers draw a result instead of computing it.

All else of a worker is the product's own: it reads both series, writes every object, records its verdict. Only the
registration, which takes most of a minute, is replaced by a made analysis and some seconds of waiting.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from made import analysis_of

from analysis.parameters import Parameters
from analysis.pipeline.pipeline import Analysis
from dicom_node.dicom.pixels import load_volume
from dicom_node.jobs import order as orders
from dicom_node.jobs import worker
from dicom_node.model import Pair

#: A made analysis takes at most so long, seconds.
SECONDS = 4.0


def made(
    pair: Pair, paths: Mapping[str, Path], _parameters: Parameters, progress: Callable[[str, float], None],
    *_: Any,
) -> tuple[Analysis, Pair]:  # fmt: skip
    """Read both series of a pair, wait, and return an analysis that does not depend on them."""
    for series in (pair.inspiratory, pair.expiratory):
        load_volume(series, paths)
    progress("registration", 0.5)
    time.sleep(random.uniform(0.0, SECONDS))
    return analysis_of(pair.expiratory), pair


def run(order: orders.Order) -> None:
    """Work on one order as the product does, with `made` for the analysis."""
    worker.analyse_pair = made  # type: ignore[assignment]
    worker.DEFAULT_OBJECTS = ()  # type: ignore[assignment]  # what the destinations take: captures take seconds
    orders.run(order)


def main() -> None:
    """Run the command line with these workers."""
    from dicom_node.commands.app import main as command
    from dicom_node.node import node

    node.Node = partial(node.Node, run=run)  # type: ignore[misc, assignment]
    command()


if __name__ == "__main__":
    import chaos_node  # the spawned workers find `run` by this name, not in "__main__"

    chaos_node.main()
