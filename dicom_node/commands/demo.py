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
    from ..settings.config import Config
    from .demonstration import Demo


def demo_(
    out: Annotated[Path, typer.Option(help="New folder for everything the demo makes.")] = Path("demo"),
    page: Annotated[
        bool,
        typer.Option("--page", help="Show the node's page afterwards, until Ctrl-C; prints its address."),
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the page; 0 for any free one.")] = 8080,
) -> None:
    """Make a thorax phantom, send it to a node on loopback, and show what arrives at a stand-in PACS."""
    from ..settings.web import WebSettings
    from .demonstration import demo

    for name in ("pydicom", "pynetdicom", "highdicom", "apscheduler", "dicom_node"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    shown = _shown if page else None
    with bars() as progress:
        made = demo(out, progress, WebSettings(port=port) if page else None, shown)
    if not page:
        _print(made)


def _print(made: Demo) -> None:
    """Print the truth beside the result, and the files."""
    from analysis.figures.colours import CLASS_NAME
    from analysis.limits_of_use import RESEARCH_USE

    table = Table("class", "truth %", "result %", title="Fractions of the lung", title_justify="left")
    for c, truth in made.truth.items():
        table.add_row(CLASS_NAME[c], f"{truth:.1f}", f"{made.measured[c]:g}")
    Console().print(table)
    print(RESEARCH_USE)
    for path in made.files:
        print(path)


def _shown(settings: Config, made: Demo) -> None:
    """Print the result and show the page of the node, to a user made for it, until Ctrl-C."""
    import secrets
    import signal
    import threading
    import time

    from ..store.database import Database
    from ..web import users
    from ..web.process import Page

    _print(made)
    password = secrets.token_urlsafe(9)
    database = Database(settings.database_url)
    users.add(database, "demo", "admin", password, time.time())
    database.close()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    page = Page(settings)
    page.start()
    try:
        print(
            f"\nThe page is at {page.address} (Ctrl-C ends it)\nName: demo   Password: {password}", flush=True
        )
        ended.wait()
    finally:
        page.stop()
