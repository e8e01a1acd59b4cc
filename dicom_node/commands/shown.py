"""Typed status -> tables on the terminal, in which nothing that somebody sent can act on it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..node.lookup import handles
from ..node.status import OPEN_JOB, Instances, Job, Running, Status, Study
from ..printable import printable

if TYPE_CHECKING:
    from ..node.study_status import StudyStatus

Column = tuple[str, Callable[[Any], str]]
#: Columns of text where the output is no terminal, so that nothing is cut in a file or a pipe.
WIDE = 400


def show_status(node: Running, found: Status) -> None:
    """Print the numbers of each state, then what needs a person, then the newest."""
    console = _console()
    for line in _summary(node, found):
        console.print(Text(printable(line)))
    short = handles([one.study_uid for one in found.studies])
    needs = _needs(found)
    sections = (
        ("Needs a person", NEEDS, needs),
        ("Under way", STUDIES, [s for s in found.studies if s.state in ("RECEIVING", "WAITING")]),
        ("Jobs to be done", JOBS, [j for j in found.jobs if j.state in ("READY", "RUNNING")]),
        ("Studies that ended", STUDIES, [s for s in found.studies if s.state in ("PAIRED", "REMOVED")]),
        ("Jobs that ended", JOBS, [j for j in found.jobs if j.state not in OPEN_JOB]),
        ("Deliveries", DELIVERIES, [d for d in found.deliveries if d.state != "DEAD"]),
        ("Commitments", COMMITMENTS, [c for c in found.commitments if c.state != "DEAD"]),
        ("Notifications", NOTICES, [n for n in found.notices if n.state != "DEAD"]),
    )
    for title, columns, rows in sections:
        _print(console, title, columns, rows, short)


def show_study(found: StudyStatus) -> None:
    """Print one study."""
    console = _console()
    one = found.study
    short = {**handles([s.series_uid for s in found.series]), one.study_uid: one.study_uid}
    console.print(Text(printable(f"Study {one.study_uid}: {one.state} since {_time(one.since)}")))
    if why := _why(one):
        console.print(Text(printable(why)))
    _print(console, "Series", SERIES, found.series, short)
    _print(console, "Jobs", JOBS, found.jobs, short)
    _print(console, "Deliveries", DELIVERIES, found.deliveries, short)
    _print(console, "Timeline", TIMELINE, found.timeline, short)


def _console() -> Console:
    # in a pipe a table must not be cut at 80 columns
    return Console() if sys.stdout.isatty() else Console(width=max(shutil.get_terminal_size().columns, WIDE))


def _print(
    console: Console, title: str, columns: Sequence[Column], rows: Sequence[Any], short: dict[str, str]
) -> None:
    if not rows:
        return
    table = Table(title=f"{title} ({len(rows)})", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    cells = [[cell(row) for _, cell in columns] for row in rows]
    for at, (name, _) in enumerate(columns):
        if any(row[at] for row in cells):  # a column in which nothing stands takes room from the others
            table.add_column(name, no_wrap=name in KEYS)
    for row in cells:
        shown = [text for at, text in enumerate(row) if any(other[at] for other in cells)]
        # not printed as markup: rich would interpret brackets in what a sender wrote
        table.add_row(*(Text(printable(short.get(text, text))) for text in shown))
    console.print(table)


def _summary(node: Running, found: Status) -> list[str]:
    """Return what stands above the tables."""
    version = f" {node.version}" if node.version else ""
    up = f"runs since {_time(node.started)}, port {node.port}" if node.runs and node.started else "runs"
    who = f"Node{version}: " + (up if node.runs and not node.problem else f"NOT WELL: {node.problem}")
    room = f"{node.free / 1e9:.1f} of {node.size / 1e9:.1f} GB free"
    disk = f"Disk: {room}; nothing is received below {node.low / 1e9:.1f} GB"
    instances = found.instances
    numbers = {
        "Instances": _instances(instances),
        "Studies": [f"{n} {state}" for state, n in found.counts.studies.items()],
        "Jobs": [f"{n} {state}" for state, n in found.counts.jobs.items()],
    }
    lines = [f"{name}: {', '.join(parts) or 'none'}" for name, parts in numbers.items()]
    return [who, disk, *lines]


def _instances(found: Instances) -> list[str]:
    numbers = {
        "stored": found.stored,
        "to be read": found.to_be_read,
        "unreadable": found.unreadable,
        "quarantined": found.quarantined,
    }
    return [f"{n} {name}" for name, n in numbers.items()]


#: (what, which, since, why, what helps) of everything that only a person can mend.
Need = tuple[str, str, float | None, str, str]


def _needs(found: Status) -> list[Need]:
    rows: list[Need] = []
    for study in found.studies:
        if study.state in ("OVERDUE", "REFUSED"):
            rows.append((f"study {study.state}", study.study_uid, study.since, _why(study), "assign, force"))
    for job in found.jobs:
        if job.state in ("FAILED", "REFUSED"):
            rows.append((f"job {job.state}", str(job.id), job.since, job.reason, f"retry {job.id}"))
    for one in found.deliveries:
        if one.state == "DEAD":
            what = f"{one.objects} objects for {one.destination}"
            rows.append(("delivery DEAD", what, None, one.reason, f"retry {one.job_id}"))
    for owed in found.commitments:
        if owed.state == "DEAD":
            rows.append(("commitment DEAD", owed.calling_ae, None, owed.reason, ""))
    for notice in found.notices:
        if notice.state == "DEAD":
            rows.append(
                ("notifications DEAD", f"{notice.events} for {notice.channel}", None, notice.reason, "")
            )
    rows += [("unreadable", u.sop_instance_uid, u.received_at, u.problem, "") for u in found.unreadable]
    if (more := found.instances.unreadable - len(found.unreadable)) > 0:
        rows.append(("unreadable", f"and {more} more", None, "", ""))
    if found.instances.quarantined:
        why = "came again with other content, or are damaged: storage/quarantine"
        rows.append(("quarantined", f"{found.instances.quarantined} files", None, why, ""))
    return rows


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _job_state(row: Job) -> str:
    return f"{row.state} {row.stage} {row.fraction:.0%}" if row.state == "RUNNING" else row.state


def _missing(row: Study) -> str:
    if not row.missing or row.state == "REMOVED":
        return ""
    return f"{row.missing} of {row.listed} images its scanner lists are not here"


def _why(row: Study) -> str:
    return "; ".join(text for text in (row.reason, _missing(row), row.search) if text)


#: Columns that are never broken over lines: what a person copies into a command.
KEYS = frozenset({"study", "job", "series", "which", "state", "what"})
NEEDS: tuple[Column, ...] = (
    ("what", lambda r: r[0]),
    ("which", lambda r: r[1]),
    ("since", lambda r: _time(r[2])),
    ("why", lambda r: r[3]),
    ("what helps", lambda r: r[4]),
)
STUDIES: tuple[Column, ...] = (
    ("study", lambda r: r.study_uid),
    ("images", lambda r: str(r.instances)),
    ("state", lambda r: r.state),
    ("since", lambda r: _time(r.since)),
    ("until", lambda r: _time(r.due_at)),
    ("why", _why),
)
JOBS: tuple[Column, ...] = (
    ("job", lambda r: str(r.id)),
    ("study", lambda r: r.study_uid),
    ("revision", lambda r: str(r.revision)),
    ("state", _job_state),
    ("since", lambda r: _time(r.since)),
    ("why", lambda r: r.reason),
)
DELIVERIES: tuple[Column, ...] = (
    ("job", lambda r: str(r.job_id)),
    ("destination", lambda r: r.destination),
    ("state", lambda r: r.state),
    ("objects", lambda r: str(r.objects)),
    ("attempts", lambda r: str(r.attempts)),
    ("next", lambda r: _time(r.due_at)),
    ("why", lambda r: r.reason),
)
COMMITMENTS: tuple[Column, ...] = (
    ("asked by", lambda r: r.calling_ae),
    ("transaction", lambda r: r.transaction_uid),
    ("state", lambda r: r.state),
    ("objects", lambda r: str(r.objects)),
    ("not kept", lambda r: "" if r.failed is None else str(r.failed)),
    ("attempts", lambda r: str(r.attempts)),
    ("next", lambda r: _time(r.due_at) if r.state == "QUEUED" else ""),
    ("why", lambda r: r.reason),
)
NOTICES: tuple[Column, ...] = (
    ("channel", lambda r: r.channel),
    ("state", lambda r: r.state),
    ("events", lambda r: str(r.events)),
    ("attempts", lambda r: str(r.attempts)),
    ("next", lambda r: _time(r.due_at)),
    ("why", lambda r: r.reason),
)
SERIES: tuple[Column, ...] = (
    ("series", lambda r: r.series_uid),
    ("images", lambda r: str(r.instances)),
    ("MB", lambda r: f"{r.size / 1e6:.1f}"),
    ("phase", lambda r: r.phase),
    ("assigned", lambda r: r.assigned),
    ("evidence", lambda r: r.evidence),
)
TIMELINE: tuple[Column, ...] = (("when", lambda r: _time(r.at)), ("what happened", lambda r: r.what))
