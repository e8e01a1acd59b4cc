"""The command `dicom-node demo`: what it shows of the demonstration."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .progress import bars


def demo_(
    out: Annotated[Path, typer.Option(help="New folder for everything the demo makes.")] = Path("demo"),
) -> None:
    """Make a thorax phantom, send it to a node on loopback, and show what arrives at a stand-in PACS."""
    from analysis.figures.colours import CLASS_NAME
    from analysis.limits_of_use import RESEARCH_USE

    from .demonstration import demo

    for name in ("pydicom", "pynetdicom", "highdicom", "apscheduler", "dicom_node"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with bars() as progress:
        made = demo(out, progress)
    table = Table("class", "truth %", "result %", title="Fractions of the lung", title_justify="left")
    for c, truth in made.truth.items():
        table.add_row(CLASS_NAME[c], f"{truth:.1f}", f"{made.measured[c]:.1f}")
    Console().print(table)
    print(RESEARCH_USE)
    for path in made.files:
        print(path)
