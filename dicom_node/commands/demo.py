"""The command `dicom-node demo`: what it shows of the demonstration."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from .progress import bars

if TYPE_CHECKING:
    from .demonstration import Demo


def demo_(
    out: Annotated[Path, typer.Option(help="New folder for everything the demo makes.")] = Path("demo"),
    page: Annotated[
        bool, typer.Option("--page", help="Keep the node's page open afterwards, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int, typer.Option(help="Port of the page; where it is taken, or 0, any free one.")
    ] = 8080,
) -> None:
    """Make a thorax phantom, send it to a node on loopback, and show what arrives at a stand-in PACS."""
    from ..settings.web import WebSettings
    from .demonstration import demo

    for name in ("pydicom", "pynetdicom", "highdicom", "apscheduler", "dicom_node"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with bars() as progress:
        made = demo(out, progress, WebSettings(port=port), _opened, _kept if page else lambda made: None)
    if not page:
        _print(made)
        print("The page has ended with the node; `dicom-node demo --page` keeps it open.")


def _opened(address: str, name: str, password: str) -> None:
    print(f"The node's page: {address}   (name {name}, password {password})", flush=True)


def _print(made: Demo) -> None:
    """Print the truth beside the result, and the files."""
    from analysis.figures.colours import CLASS_NAME
    from analysis.limits_of_use import RESEARCH_USE

    table = Table(
        "class", "truth %", "result %", title="Fractions of the classified lung", title_justify="left"
    )
    for c, truth in made.truth.items():
        table.add_row(CLASS_NAME[c], f"{truth:.1f}", f"{made.measured[c]:g}")
    Console().print(table)
    print(RESEARCH_USE)
    for path in made.files:
        print(path)


def _kept(made: Demo) -> None:
    """Print the result, and wait for Ctrl-C while the page shows it."""
    import signal
    import threading

    _print(made)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    print("The page stays open until Ctrl-C.", flush=True)
    ended.wait()
