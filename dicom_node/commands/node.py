"""The commands for a node: serve it, look at it, decide for it."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from ..errors import Unavailable
from .options import ConfigPath, configure_logging, read_settings


def serve(config: ConfigPath = None) -> None:
    """Run the node: receive images, analyse pairs, deliver results, until SIGTERM or Ctrl-C.

    Killed at any moment and started again, it goes on where it was.
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
        ended.wait()
    finally:
        node.stop()


def status(
    config: ConfigPath = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Show what is waiting, running, sent and failed, and why. The node need not run."""
    from ..node.status import status as read_status
    from ..store.database import Database

    settings = read_settings(config)
    if not settings.database and not (settings.storage / "node.db").exists():
        raise Unavailable(f"no node has run with the storage {settings.storage} yet")
    database = Database(settings.database_url)
    found = read_status(database)
    database.close()
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _show(found)


def conformance() -> None:
    """Print the DICOM conformance statement of this version, in Markdown."""
    from ..node.conformance import statement

    print(statement(), end="")


def check_config(config: ConfigPath = None) -> None:
    """Check the configuration, storage, database and port, and whether the destinations answer.

    A destination that does not answer is reported, but is no fault of the configuration: results wait for it.
    """
    from ..node.check import check

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    console = Console()
    fatal = ""
    for item in check(read_settings(config)):
        mark = "[green]ok[/]" if not item.problem else "[red]no[/]" if item.fatal else "[yellow]--[/]"
        console.print(f"{mark} {item.name}" + (f": {item.problem}" if item.problem else ""), soft_wrap=True)
        fatal = fatal or (f"{item.name}: {item.problem}" if item.fatal and item.problem else "")
    if fatal:
        raise Unavailable(fatal)


def retry(
    job: Annotated[int, typer.Argument(help="Number of the job, as `dicom-node status` shows it.")],
    config: ConfigPath = None,
) -> None:
    """Run a refused, failed or cancelled job again, or send again what a destination did not take."""
    import time

    from ..delivery import queue as deliver
    from ..jobs import queue as jobs
    from ..store.database import Database

    database = Database(read_settings(config).database_url)
    if again := deliver.retry(database, job, time.time()):
        print(f"{again} objects of job {job} are queued again")
    else:
        jobs.retry(database, job, time.time())
        print(f"job {job} is queued again")


def cancel(
    job: Annotated[int, typer.Argument(help="Number of the job, as `dicom-node status` shows it.")],
    config: ConfigPath = None,
) -> None:
    """Give up a job that has not ended; a node that works on it ends its process."""
    import time

    from ..jobs import queue as jobs
    from ..store.database import Database

    jobs.cancel(Database(read_settings(config).database_url), job, time.time())
    print(f"job {job} is cancelled")


def force(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    config: ConfigPath = None,
) -> None:
    """Decide on a study now, without waiting until nothing more comes."""
    import time

    from ..store.database import Database
    from ..studies import queue as studies

    studies.look_now(Database(read_settings(config).database_url), study, time.time())
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

    from ..store.database import Database
    from ..studies import queue as studies

    database = Database(read_settings(config).database_url)
    study = studies.assign(database, series, phase, time.time())
    if join:
        studies.join(database, study, join, time.time())
    print(f"series {series}: {phase}; study {study} is due now" + (f", as is study {join}" if join else ""))


def _show(found: dict[str, Any]) -> None:
    console = Console()
    counts = ", ".join(f"{n} {name}" for name, n in found["instances"].items())
    console.print(f"Instances: {counts}")
    for name, columns in TABLES.items():
        if rows := found[name]:
            table = Table(*(c for c, _ in columns), title=name.capitalize(), title_justify="left")
            for row in rows:
                table.add_row(*(cell(row) for _, cell in columns))
            console.print(table)


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _job_state(row: dict[str, Any]) -> str:
    return (
        f"{row['state']} {row['stage']} {row['fraction']:.0%}" if row["state"] == "RUNNING" else row["state"]
    )


def _missing(row: dict[str, Any]) -> str:
    if not row["missing"] or row["state"] == "REMOVED":
        return ""
    return f"{row['missing']} of {row['listed']} images its scanner lists are not here"


Column = tuple[str, Callable[[dict[str, Any]], str]]


TABLES: dict[str, tuple[Column, ...]] = {
    "studies": (
        ("study", lambda r: r["study_uid"]),
        ("images", lambda r: str(r["instances"])),
        ("state", lambda r: r["state"]),
        ("since", lambda r: _time(r["since"])),
        ("until", lambda r: _time(r["due_at"])),
        ("why", lambda r: "; ".join(text for text in (r["reason"], _missing(r), r["search"]) if text)),
    ),
    "jobs": (
        ("job", lambda r: str(r["id"])),
        ("study", lambda r: r["study_uid"]),
        ("revision", lambda r: str(r["revision"])),
        ("state", _job_state),
        ("since", lambda r: _time(r["since"])),
        ("why", lambda r: r["reason"]),
    ),
    "deliveries": (
        ("job", lambda r: str(r["job_id"])),
        ("destination", lambda r: r["destination"]),
        ("state", lambda r: r["state"]),
        ("objects", lambda r: str(r["objects"])),
        ("attempts", lambda r: str(r["attempts"])),
        ("next", lambda r: _time(r["due_at"])),
        ("why", lambda r: r["reason"]),
    ),
    "commitments": (
        ("asked by", lambda r: r["calling_ae"]),
        ("transaction", lambda r: r["transaction_uid"]),
        ("state", lambda r: r["state"]),
        ("objects", lambda r: str(r["objects"])),
        ("not kept", lambda r: "" if r["failed"] is None else str(r["failed"])),
        ("attempts", lambda r: str(r["attempts"])),
        ("next", lambda r: _time(r["due_at"]) if r["state"] == "QUEUED" else ""),
        ("why", lambda r: r["reason"]),
    ),
    "unreadable": (
        ("instance", lambda r: r["sop_instance_uid"]),
        ("from", lambda r: r["calling_ae"]),
        ("received", lambda r: _time(r["received_at"])),
        ("why", lambda r: r["problem"]),
    ),
}
