"""The commands for a node: serve it, look at it, decide for it."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from ..errors import Rejected, Unavailable
from ..printable import printable
from .logs import configure_logging
from .options import ConfigPath, read_settings

if TYPE_CHECKING:
    from ..audit.trail import Trail
    from ..node.check import Check
    from ..settings.config import Config
    from ..store.database import Database
    from ..web.process import Page

#: Pause between two looks of `status --watch` (s).
WATCH_SECONDS = 2.0
#: Schema of the JSON that `dicom-node status STUDY --json` prints.
STUDY_SCHEMA = "vq-dicom-node study status 1"
STUDY = "Study Instance UID or the end of it, accession number or patient ID."


def serve(
    config: ConfigPath = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="Least level that is logged.")
    ] = "info",
    log_json: Annotated[bool, typer.Option("--log-json", help="Log an object of JSON a line.")] = False,
) -> None:
    """Run the node: receive images, analyse pairs, deliver results, until SIGTERM or Ctrl-C.

    A node that was killed continues where it was when it is started again.
    """
    from ..node.node import Node

    settings = read_settings(config)
    prepare = partial(configure_logging, log_level, log_json)
    prepare()
    try:
        node = Node(settings, prepare=prepare)
    except Rejected as error:  # the service manager must not start it again and again
        raise typer.BadParameter(str(error), param_hint="--config") from error
    page = _page(settings, prepare)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        node.start()
        if page is not None:
            page.start(node.identity)
        while not ended.wait(1.0):
            node.check()
    finally:
        if page is not None:
            page.stop()
        node.stop()


def _page(settings: Config, prepare: Callable[[], None]) -> Page | None:
    """Return the page of a node, where the settings have one."""
    if settings.web is None:
        return None
    from ..web.process import Page

    return Page(settings, prepare)


def status(
    study: Annotated[
        str,
        typer.Argument(
            help="One study in full: its UID or the end of it, an accession number or a patient ID."
        ),
    ] = "",
    config: ConfigPath = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")
    ] = False,
) -> None:
    """Show what is waiting, running, sent and failed, and why. The node does not have to be running.

    Numbers of each state come first, then what needs a person, then the newest. With STUDY: its series and their
    phases, its jobs and deliveries, and all that happened to it.
    """
    import time

    from ..store.database import Database

    settings = read_settings(config)
    database = Database(settings.database_url)
    show = (
        partial(_show_study, settings, database, study) if study else partial(_show_all, settings, database)
    )
    try:
        show(as_json)
        while watch:
            time.sleep(WATCH_SECONDS)
            print("\x1b[H\x1b[2J" if sys.stdout.isatty() else "", end="")
            show(as_json)
    except KeyboardInterrupt:
        pass
    finally:
        database.close()


def _show_all(settings: Config, database: Database, as_json: bool) -> None:
    import time

    from ..node.status import SCHEMA, running
    from ..node.status import status as read_status
    from ..strict_json import encode
    from .shown import show_status

    node, found = running(settings, time.time()), read_status(database)
    if as_json:
        print(encode({"schema": SCHEMA, "node": asdict(node), **asdict(found)}, indent=2))
    else:
        show_status(node, found)


def _show_study(settings: Config, database: Database, text: str, as_json: bool) -> None:
    from ..node.lookup import find_studies
    from ..node.study_status import study_status
    from ..strict_json import encode
    from .shown import show_study

    found = [
        study_status(database, uid, settings.pairing) for uid in find_studies(database, settings.layout, text)
    ]
    if as_json:
        print(encode({"schema": STUDY_SCHEMA, "studies": [asdict(one) for one in found]}, indent=2))
        return
    for one in found:
        show_study(one)


def health(
    live: Annotated[
        bool, typer.Option("--live", help="Only whether the node's ticks run, not whether it can receive.")
    ] = False,
    config: ConfigPath = None,
) -> None:
    """Say whether the node runs and can receive: exit code 0, or 3 with the reasons. For containers and monitors."""
    import time

    from ..metrics.health import live as is_live
    from ..metrics.health import ready
    from ..store.database import Database
    from ..store.heartbeat import read_pulse, runs

    settings, now = read_settings(config), time.time()
    pulse = read_pulse(settings.layout)
    found = (
        is_live(pulse, now) if live else ready(settings, pulse, lambda: Database(settings.database_url), now)
    )
    problems = found.problems if runs(settings.layout) else ("no node runs with this storage",)
    if problems:
        raise Unavailable("; ".join(problems))
    print("ok")


def conformance() -> None:
    """Print the DICOM conformance statement of this version, in Markdown."""
    from ..node.conformance import statement

    print(statement(), end="")


def check_config(config: ConfigPath = None) -> None:
    """Check the configuration, storage, database, ports and certificates, and whether the destinations answer.

    A destination that does not answer is reported, but is not a configuration error: results wait for it. Exit codes: 2
    where the configuration must be mended, 3 where a port, the storage or the database is unavailable.
    """
    from ..node.check import check

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    console = Console()
    fatal: list[Check] = []
    for item in check(read_settings(config)):
        mark = "[green]ok[/]" if not item.problem else "[red]no[/]" if item.fatal else "[yellow]--[/]"
        told = f" {item.name}" + (f": {item.problem}" if item.problem else "")
        console.print(Text.assemble(Text.from_markup(mark), printable(told)), soft_wrap=True)
        fatal += [item] if item.fatal and item.problem else []
    told = "; ".join(f"{item.name}: {item.problem}" for item in fatal)
    if any(item.wrong for item in fatal):
        raise typer.BadParameter(told, param_hint="--config")
    if fatal:
        raise Unavailable(told)


def retry(
    job: Annotated[int, typer.Argument(help="Number of the job, as `dicom-node status` shows it.")],
    config: ConfigPath = None,
) -> None:
    """Run a refused, failed or cancelled job again, or send again what a destination did not accept."""
    import time

    from ..delivery import queue as deliver
    from ..jobs import queue as jobs

    _, database, trail = _opened(config)
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

    _, database, trail = _opened(config)
    jobs.cancel(database, job, time.time())
    trail.operated(f"cancel: job {job} is cancelled")
    print(f"job {job} is cancelled")


def force(
    study: Annotated[str, typer.Argument(help=STUDY)],
    config: ConfigPath = None,
) -> None:
    """Decide on a study now, without waiting for further images."""
    import time

    from ..node.lookup import find_study
    from ..studies import queue as studies

    settings, database, trail = _opened(config)
    study = find_study(database, settings.layout, study)
    studies.look_now(database, study, time.time())
    trail.operated(f"force: study {study} is due now")
    print(f"study {study} is due now")


def reread(
    instance: Annotated[
        str, typer.Argument(help="SOP Instance UID, or all; without it, the images are listed.")
    ] = "",
    config: ConfigPath = None,
) -> None:
    """List the images that ended their reader, or that the disk did not give; or read them again.

    Something else may have been to blame, such as a machine without memory. The node tries them again by itself, all of
    them at its start and some every hour; one that ends its reader again is listed again.
    """
    from ..store import unread

    _, database, trail = _opened(config)
    if not instance:
        for uid, problem in unread.blamed(database):
            print(f"{uid}: {printable(problem)}")
        return
    count = unread.read_again(database, unread.PROBLEMS, uid="" if instance == "all" else instance)
    if not count:
        raise Rejected(f"no image to read again: {instance}")
    done = f"{count} images are read again"
    trail.operated(f"reread: {done}")
    print(done)


def assign(
    series: Annotated[str, typer.Argument(help="Series Instance UID, or the end of it.")],
    phase: Annotated[
        Literal["inspiration", "expiration", "none"],
        typer.Argument(help="What it is; none: no part of a pair."),
    ],
    join: Annotated[
        str,
        typer.Option(help="The study that holds its other phase, where it is another, named as for `force`."),
    ] = "",
    config: ConfigPath = None,
) -> None:
    """Say which phase a series is, whatever its descriptions say; the lung volumes must still agree."""
    import time

    from ..node.lookup import find_series, find_study
    from ..studies import queue as studies

    settings, database, trail = _opened(config)
    series, join = find_series(database, series), find_study(database, settings.layout, join) if join else ""
    study = studies.assign(database, series, phase, time.time())
    if join:
        studies.join(database, study, join, time.time())
    done = f"series {series}: {phase}; study {study} is due now" + (f", as is study {join}" if join else "")
    trail.operated(f"assign: {done}")
    print(done)


def _opened(config: Path | None) -> tuple[Config, Database, Trail]:
    """Read the settings and open the node's database and its audit trail, which records what an operator decides."""
    from ..audit.trail import Trail
    from ..store.database import Database

    settings = read_settings(config)
    database = Database(settings.database_url)
    return settings, database, Trail(database, settings.audit, settings.receive.ae_title)
