"""The database -> every study with what became of it, a page of them at a time, and how many are in each state."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import sqlalchemy as sa

from ..errors import NodeError, Rejected
from ..jobs.queue import JobState
from ..node.lookup import find_studies
from ..store.tables import delivery, instance, job, result, study
from ..studies.queue import StudyState
from .previews import Names, names_of
from .site import Ask, Site

#: Rows of one page.
ROWS = 50
#: So many jobs or studies in one state are many.
MANY = 2000
#: States of deliveries that a person looks for.
OPEN = ("QUEUED", "DEAD")


@dataclass(frozen=True)
class Count:
    """How many studies, jobs or objects are in one state."""

    of: str
    state: str
    count: int


@dataclass(frozen=True)
class Arrival:
    """The objects of a job at its destinations, by state."""

    state: str
    objects: int
    reason: str


@dataclass(frozen=True)
class Line:
    """One study: what is here of it, what was decided, what its newest job does, and where its results are.

    Parameters
    ----------
    received_at, since, due_at : float
        Times (s since 1970): of the last image, of the state, and at which a WAITING study waits no longer.
    job_id : int or None
        Newest job.
    names : Names or None
        Where the settings allow them.
    """

    study_uid: str
    state: str
    reason: str
    search: str
    received_at: float
    since: float
    due_at: float | None
    images: int
    job_id: int | None = None
    job_state: str = ""
    job_reason: str = ""
    stage: str = ""
    fraction: float = 0.0
    arrivals: tuple[Arrival, ...] = ()
    names: Names | None = None


@dataclass(frozen=True)
class Worklist:
    """A page of studies, the newest first.

    Parameters
    ----------
    counts : tuple of Count
        Every state of studies, jobs and open deliveries, those with nothing in them too.
    older : float or None
        Value of `before` for the next page.
    now : float
        Time at which this was read (s since 1970).
    """

    counts: tuple[Count, ...]
    lines: tuple[Line, ...]
    older: float | None
    now: float
    search: str = ""
    state: str = ""


def worklist(site: Site, ask: Ask) -> Worklist:
    """Return a page of studies; values `state`, `search` and `before` narrow it down."""
    wanted, search = ask.query.get("state", ""), ask.query.get("search", "").strip()
    meant = _meant(site, search) if search else []
    with site.database.reading() as connection:
        counts = _counts(connection)
        where = _wanted(connection, wanted, search, meant)
        lines = _lines(connection, where, _number(ask.query.get("before", "")))
    if search:
        site.notebook.tell(lambda: site.trail.queried(ask.user.name))
    older = lines[ROWS - 1].received_at if len(lines) > ROWS else None
    lines = lines[:ROWS]
    if site.settings.names:
        lines = [replace(line, names=names_in(site, line.study_uid)) for line in lines]
    return Worklist(counts, tuple(lines), older, time.time(), search, wanted)


def names_in(site: Site, study_uid: str) -> Names | None:
    """Return what the images of a study say of its patient; None where the settings hide it or none can be read."""
    if not site.settings.names:
        return None
    query = sa.select(instance.c.path).where(instance.c.study_uid == study_uid).limit(1)
    with site.database.reading() as connection:
        path = connection.scalar(query)
    try:
        return names_of(site.config.storage / path) if path else None
    except (OSError, NodeError):
        return None


def _counts(connection: sa.Connection) -> tuple[Count, ...]:
    found: dict[tuple[str, str], int] = {}
    tables: Mapping[str, tuple[Any, tuple[str, ...]]] = {
        "study": (study.c.state, get_args(StudyState)),
        "job": (job.c.state, get_args(JobState)),
    }
    for of, (column, states) in tables.items():
        found |= {(of, state): 0 for state in states}
        for state, n in connection.execute(sa.select(column, sa.func.count()).group_by(column)):
            found[of, state] = n
    for state in OPEN:
        query = sa.select(sa.func.count()).select_from(delivery).where(delivery.c.state == state)
        found["delivery", state] = connection.scalar(query) or 0
    return tuple(Count(of, state, n) for (of, state), n in found.items())


def _meant(site: Site, search: str) -> list[str]:
    """Return the studies that a UID, its end, an accession number or a patient ID names."""
    try:
        return find_studies(site.database, site.config.layout, search)
    except Rejected:
        return []


def _wanted(
    connection: sa.Connection, state: str, search: str, meant: list[str]
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions on a study that a filter ("job:FAILED") and a search for a UID or job number make."""
    of, _, name = state.partition(":")
    where: list[sa.ColumnElement[bool]] = []
    if of == "study":
        where.append(_in_state(connection, name))
    elif of == "job":
        where.append(_with_job_in(connection, name))
    elif of == "delivery":
        ids = sa.select(result.c.job_id).join(delivery).where(delivery.c.state == name)
        where.append(study.c.study_uid.in_(sa.select(job.c.study_uid).where(job.c.id.in_(ids))))
    if search:
        where.append(study.c.study_uid.in_([*meant[:ROWS], *_found(connection, search)]))
    return where


def _many(connection: sa.Connection, rows: sa.Select[Any]) -> bool:
    return connection.scalar(sa.select(sa.func.count()).select_from(rows.limit(MANY).subquery())) == MANY


def _in_state(connection: sa.Connection, state: str) -> sa.ColumnElement[bool]:
    """Return the condition that a study is in a state; see `_with_job_in`."""
    if _many(connection, sa.select(study.c.study_uid).where(study.c.state == state)):
        # coalesce, which changes nothing: else SQLite sorts all studies in the state, with the images of each counted
        return sa.func.coalesce(study.c.state, "") == state
    return study.c.state == state


def _with_job_in(connection: sa.Connection, state: str) -> sa.ColumnElement[bool]:
    """Return the condition that a study has a job in a state.

    Few such jobs are listed; where there are many, the newest studies are looked through until a page is full.
    """
    jobs = sa.select(job.c.study_uid).where(job.c.state == state)
    if _many(connection, jobs):
        own = sa.select(job.c.id).where(job.c.study_uid == study.c.study_uid)
        # coalesce, which changes nothing: else SQLite goes through all jobs in the state, for each study
        return sa.exists(own.where(sa.func.coalesce(job.c.state, "") == state))
    return study.c.study_uid.in_(jobs)


def _found(connection: sa.Connection, search: str) -> list[str]:
    """Return the studies that a search means: by UID or its beginning, by series, or by the number of a job."""
    begins = sa.and_(study.c.study_uid >= search, study.c.study_uid < search + "\x7f")
    queries = [sa.select(study.c.study_uid).where(begins)]
    if "." in search:
        queries.append(sa.select(instance.c.study_uid).where(instance.c.series_uid == search))
    if search.isdecimal() and len(search) < 10:
        queries.append(sa.select(job.c.study_uid).where(job.c.id == int(search)))
    return [uid for query in queries for uid in connection.scalars(query.limit(ROWS)) if uid]


def _lines(
    connection: sa.Connection, where: list[sa.ColumnElement[bool]], before: float | None
) -> list[Line]:
    images = sa.select(sa.func.count()).where(instance.c.study_uid == study.c.study_uid).scalar_subquery()
    names = "study_uid", "state", "reason", "search", "received_at", "since", "due_at"
    query = sa.select(*(study.c[name] for name in names), images.label("images")).where(*where)
    if before is not None:
        query = query.where(study.c.received_at < before)
    rows = connection.execute(query.order_by(study.c.received_at.desc()).limit(ROWS + 1)).all()
    return _with_jobs(connection, [Line(**row._mapping) for row in rows])


def one_line(connection: sa.Connection, study_uid: str) -> Line | None:
    """Return one study as the worklist shows it; None where there is none."""
    found = _lines(connection, [study.c.study_uid == study_uid], None)
    return found[0] if found else None


def _with_jobs(connection: sa.Connection, lines: list[Line]) -> list[Line]:
    newest = _newest_jobs(connection, [line.study_uid for line in lines])
    arrivals = _arrivals(connection, [row.id for row in newest.values()])
    return [_with_job(line, newest.get(line.study_uid), arrivals) for line in lines]


def _with_job(line: Line, row: Any, arrivals: Mapping[int, list[Arrival]]) -> Line:
    if row is None:
        return line
    progress = {"stage": row.stage, "fraction": row.fraction}
    told = {"job_id": row.id, "job_state": row.state, "job_reason": row.reason}
    return replace(line, **told, **progress, arrivals=tuple(arrivals.get(row.id, ())))


def _newest_jobs(connection: sa.Connection, study_uids: list[str]) -> dict[str, Any]:
    names = "id", "study_uid", "state", "reason", "stage", "fraction"
    query = sa.select(*(job.c[name] for name in names)).where(job.c.study_uid.in_(study_uids))
    return {row.study_uid: row for row in connection.execute(query.order_by(job.c.revision))}


def _arrivals(connection: sa.Connection, job_ids: list[int]) -> dict[int, list[Arrival]]:
    groups = result.c.job_id, delivery.c.state
    query = (
        sa.select(*groups, sa.func.count().label("objects"), sa.func.max(delivery.c.reason).label("reason"))
        .select_from(delivery.join(result))
        .where(result.c.job_id.in_(job_ids))
        .group_by(*groups)
    )
    found: dict[int, list[Arrival]] = {}
    for row in connection.execute(query):
        found.setdefault(row.job_id, []).append(Arrival(row.state, row.objects, row.reason))
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
