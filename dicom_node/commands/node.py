"""The commands for a node: serve it, look at it, decide for it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import Unavailable
from ..printable import printable
from .options import ConfigPath, configure_logging, read_settings

if TYPE_CHECKING:
    from ..audit.trail import Trail
    from ..node.status import Job, Status, Study
    from ..store.database import Database


def serve(config: ConfigPath = None) -> None:
    """Run the node: receive images, analyse pairs, deliver results, until SIGTERM or Ctrl-C.

    A node that was killed continues where it was when it is started again.
    """
    from ..node.node import Node

    settings = read_settings(config)
    configure_logging()
    node = Node(settings, prepare=configure_logging)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        node.start()
        while not ended.wait(1.0):
            node.check()
    finally:
        node.stop()


def status(
    config: ConfigPath = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Show what is waiting, running, sent and failed, and why. The node does not have to be running."""
    from ..node.status import SCHEMA
    from ..node.status import status as read_status
    from ..store.database import Database
    from ..strict_json import encode

    settings = read_settings(config)
    database = Database(settings.database_url)
    found = read_status(database)
    database.close()
    if as_json:
        print(encode({"schema": SCHEMA, **asdict(found)}, indent=2))
    else:
        _show(found)


def conformance() -> None:
    """Print the DICOM conformance statement of this version, in Markdown."""
    from ..node.conformance import statement

    print(statement(), end="")


def check_config(config: ConfigPath = None) -> None:
    """Check the configuration, storage, database and port, and whether the destinations answer.

    A destination that does not answer is reported, but is not a configuration error: results wait for it.
    """
    from ..node.check import check

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    console = Console()
    fatal = ""
    for item in check(read_settings(config)):
        mark = "[green]ok[/]" if not item.problem else "[red]no[/]" if item.fatal else "[yellow]--[/]"
        told = f" {item.name}" + (f": {item.problem}" if item.problem else "")
        console.print(Text.assemble(Text.from_markup(mark), printable(told)), soft_wrap=True)
        fatal = fatal or (f"{item.name}: {item.problem}" if item.fatal and item.problem else "")
    if fatal:
        raise Unavailable(fatal)


def retry(
    job: Annotated[int, typer.Argument(help="Number of the job, as `dicom-node status` shows it.")],
    config: ConfigPath = None,
) -> None:
    """Run a refused, failed or cancelled job again, or send again what a destination did not accept."""
    import time

    from ..delivery import queue as deliver
    from ..jobs import queue as jobs

    database, trail = _opened(config)
    if again := deliver.retry(database, job, time.time()):
        done = f"{again} objects of job {job} are queued again"
    else:
        jobs.retry(database, job, time.time())
        done = f"job {job} is queued again"
    trail.operated(f"retry: {done}")
    print(done)


def cancel(
    job: Annotated[int, typer.Argument(help="Number of the job, as `dicom-node status` shows it.")],
    config: ConfigPath = None,
) -> None:
    """Cancel a job that has not ended; if it is running, the node ends its process."""
    import time

    from ..jobs import queue as jobs

    database, trail = _opened(config)
    jobs.cancel(database, job, time.time())
    trail.operated(f"cancel: job {job} is cancelled")
    print(f"job {job} is cancelled")


def force(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    config: ConfigPath = None,
) -> None:
    """Decide on a study now, without waiting for further images."""
    import time

    from ..studies import queue as studies

    database, trail = _opened(config)
    studies.look_now(database, study, time.time())
    trail.operated(f"force: study {study} is due now")
    print(f"study {study} is due now")


def assign(
    series: Annotated[str, typer.Argument(help="Series Instance UID.")],
    phase: Annotated[
        Literal["inspiration", "expiration", "none"],
        typer.Argument(help="What it is; none: no part of a pair."),
    ],
    join: Annotated[
        str,
        typer.Option(help="Study Instance UID of the study that holds its other phase, where it is another."),
    ] = "",
    config: ConfigPath = None,
) -> None:
    """Say which phase a series is, whatever its descriptions say; the lung volumes must still agree."""
    import time

    from ..studies import queue as studies

    database, trail = _opened(config)
    study = studies.assign(database, series, phase, time.time())
    if join:
        studies.join(database, study, join, time.time())
    done = f"series {series}: {phase}; study {study} is due now" + (f", as is study {join}" if join else "")
    trail.operated(f"assign: {done}")
    print(done)


def _opened(config: Path | None) -> tuple[Database, Trail]:
    """Open the node's database and its audit trail, which records what an operator decides."""
    from ..audit.trail import Trail
    from ..store.database import Database

    settings = read_settings(config)
    database = Database(settings.database_url)
    return database, Trail(database, settings.audit, settings.receive.ae_title)


def _show(found: Status) -> None:
    console = Console()
    counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in asdict(found.instances).items())
    console.print(f"Instances: {counts}")
    for name, columns in TABLES.items():
        if rows := getattr(found, name):
            table = Table(*(c for c, _ in columns), title=name.capitalize(), title_justify="left")
            for row in rows:
                # not printed as markup: rich would interpret brackets in what a sender wrote
                table.add_row(*(Text(printable(cell(row))) for _, cell in columns))
            console.print(table)


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _job_state(row: Job) -> str:
    return f"{row.state} {row.stage} {row.fraction:.0%}" if row.state == "RUNNING" else row.state


def _missing(row: Study) -> str:
    if not row.missing or row.state == "REMOVED":
        return ""
    return f"{row.missing} of {row.listed} images its scanner lists are not here"


Column = tuple[str, Callable[[Any], str]]


TABLES: dict[str, tuple[Column, ...]] = {
    "studies": (
        ("study", lambda r: r.study_uid),
        ("images", lambda r: str(r.instances)),
        ("state", lambda r: r.state),
        ("since", lambda r: _time(r.since)),
        ("until", lambda r: _time(r.due_at)),
        ("why", lambda r: "; ".join(text for text in (r.reason, _missing(r), r.search) if text)),
    ),
    "jobs": (
        ("job", lambda r: str(r.id)),
        ("study", lambda r: r.study_uid),
        ("revision", lambda r: str(r.revision)),
        ("state", _job_state),
        ("since", lambda r: _time(r.since)),
        ("why", lambda r: r.reason),
    ),
    "deliveries": (
        ("job", lambda r: str(r.job_id)),
        ("destination", lambda r: r.destination),
        ("state", lambda r: r.state),
        ("objects", lambda r: str(r.objects)),
        ("attempts", lambda r: str(r.attempts)),
        ("next", lambda r: _time(r.due_at)),
        ("why", lambda r: r.reason),
    ),
    "commitments": (
        ("asked by", lambda r: r.calling_ae),
        ("transaction", lambda r: r.transaction_uid),
        ("state", lambda r: r.state),
        ("objects", lambda r: str(r.objects)),
        ("not kept", lambda r: "" if r.failed is None else str(r.failed)),
        ("attempts", lambda r: str(r.attempts)),
        ("next", lambda r: _time(r.due_at) if r.state == "QUEUED" else ""),
        ("why", lambda r: r.reason),
    ),
    "unreadable": (
        ("instance", lambda r: r.sop_instance_uid),
        ("from", lambda r: r.calling_ae),
        ("received", lambda r: _time(r.received_at)),
        ("why", lambda r: r.problem),
    ),
}
