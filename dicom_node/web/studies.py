"""A study -> what is here of it, which phase each series is and why, and all that happened, in the order of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from ..model import Series
from ..pairing.stacks import assemble, with_assigned
from ..store.events import Event, timeline
from ..store.page_tables import review
from ..store.tables import assignment, delivery, instance, job, quarantine, result
from .previews import Names
from .problems import NotThere
from .site import Ask, Site
from .worklist import Line, names_in, one_line


@dataclass(frozen=True)
class Stack:
    """A series, or the part of one that is a stack of slices.

    Parameters
    ----------
    middle : str
        SOP Instance UID of its middle slice.
    phase, evidence : str
        Which phase it is, and where that was found; or why there is none.
    gap : float
        Distance between slices (mm).
    """

    series_uid: str
    description: str
    kernel: str
    slices: int
    gap: float
    phase: str
    evidence: str
    contrast: str
    middle: str
    notes: tuple[str, ...] = ()
    assigned: str = ""


@dataclass(frozen=True)
class Unused:
    """A series that cannot be part of a pair, and why."""

    series_uid: str
    reason: str


@dataclass(frozen=True)
class Moment:
    """Something that happened, at a time (s since 1970)."""

    at: float
    what: str
    text: str
    bad: bool = False


@dataclass(frozen=True)
class Job:
    """A job of a study."""

    id: int
    revision: int
    state: str
    stage: str
    fraction: float
    reason: str
    created: float
    since: float


@dataclass(frozen=True)
class StudyPage:
    """All that is known of a study."""

    line: Line
    stacks: tuple[Stack, ...]
    unused: tuple[Unused, ...]
    jobs: tuple[Job, ...]
    moments: tuple[Moment, ...]
    names: Names | None
    viewer: str


def study_page(site: Site, ask: Ask) -> StudyPage:
    """Return all that is known of a study.

    Raises
    ------
    NotThere
        Where there is no such study.
    """
    uid = ask.path["study"]
    with site.database.reading() as connection:
        line = one_line(connection, uid)
        if line is None:
            raise NotThere(f"there is no study {uid[:64]}")
        own = list(_jobs(connection, uid))
        moments = [*_received(connection, uid), *_decided(line), *_worked(own)]
        moments += [*_delivered(connection, uid), *_reviewed(connection, uid), *_quarantined(connection, uid)]
        if told := timeline(
            connection, uid
        ):  # what was written down as it happened is better than what is left of it
            moments = [*_received(connection, uid), *_told(told)]
            moments += [*_reviewed(connection, uid), *_quarantined(connection, uid)]
        phases = sa.select(assignment).join(instance, instance.c.series_uid == assignment.c.series_uid)
        mine = phases.where(instance.c.study_uid == uid).distinct()
        assigned = {row.series_uid: row.phase for row in connection.execute(mine)}
    found = with_assigned(assemble(site.archive.headers(uid), site.config.pairing), assigned)
    site.notebook.tell(lambda: site.trail.accessed(uid, ask.user.name))
    return StudyPage(
        line,
        tuple(_stack(series, assigned) for series in found.series),
        tuple(Unused(one.series_instance_uid, one.reason) for one in found.refused),
        tuple(own),
        tuple(sorted(moments, key=lambda moment: moment.at)),
        names_in(site, uid),
        site.settings.viewer_url.replace("{study}", uid),
    )


def _stack(series: Series, assigned: dict[str, str]) -> Stack:
    uids = series.sop_instance_uids
    return Stack(
        series.series_instance_uid,
        series.description,
        series.kernel,
        len(series.slices),
        series.gap,
        series.phase or "",
        series.evidence,
        series.contrast,
        uids[len(uids) // 2],
        series.notes,
        assigned.get(series.series_instance_uid, ""),
    )


def _received(connection: sa.Connection, uid: str) -> Iterator[Moment]:
    """Yield one moment for each sender, and each pause of more than a minute in what it sent."""
    columns = instance.c.calling_ae, instance.c.received_at, instance.c.size
    query = sa.select(*columns).where(instance.c.study_uid == uid).order_by(*columns[:2])
    first = last = 0.0
    count = size = 0
    sender = None
    for ae, at, octets in [*connection.execute(query), (None, 0.0, 0)]:
        if count and (ae != sender or at - last > 60):
            speed = f", {size / 1e6 / (last - first):.0f} MB/s" if last - first > 0.5 else ""
            text = f"{count} images, {size / 1e6:.0f} MB{speed}"
            yield Moment(last, f"received from {sender}" if sender else "taken up from the archive", text)
            first, count, size = at, 0, 0
        first = first if count else at
        sender, last, count, size = ae, at, count + 1, size + octets


def _told(events: list[Event]) -> Iterator[Moment]:
    """Yield a moment for each event; that of a stage says how long it took, which the next event of its job tells."""
    ends: dict[int | None, float] = {}
    moments = []
    for event in reversed(events):
        if event.kind == "stage":
            took = f"{ends[event.job_id] - event.at:.1f} s" if event.job_id in ends else "goes on"
            moments.append(Moment(event.at, f"job {event.job_id}: {event.about}", took))
        else:
            what = f"{event.kind} {event.about}".strip()  # the text names the job
            moments.append(Moment(event.at, what, event.text, event.kind in ("refused", "dead", "failed")))
        ends[event.job_id] = event.at
    yield from reversed(moments)


def _decided(line: Line) -> Iterator[Moment]:
    if line.state != "RECEIVING":
        yield Moment(line.since, line.state, line.reason, line.state in ("REFUSED", "OVERDUE"))


def _jobs(connection: sa.Connection, uid: str) -> Iterator[Job]:
    names = "id", "revision", "state", "stage", "fraction", "reason", "created", "since"
    query = sa.select(*(job.c[name] for name in names)).where(job.c.study_uid == uid)
    for row in connection.execute(query.order_by(job.c.revision.desc())):
        yield Job(**row._mapping)


def _worked(own: list[Job]) -> Iterator[Moment]:
    for one in own:
        yield Moment(one.created, f"job {one.id}", f"made as revision {one.revision}")
        took = f" after {one.since - one.created:.0f} s" if one.state == "DONE" else ""
        if one.state != "READY":
            bad = one.state in ("REFUSED", "FAILED")
            yield Moment(one.since, f"job {one.id} {one.state}{took}", one.reason, bad)


def _delivered(connection: sa.Connection, uid: str) -> Iterator[Moment]:
    groups = delivery.c.destination, delivery.c.state, result.c.job_id
    last, reason = sa.func.max(delivery.c.since), sa.func.max(delivery.c.reason)
    query = (
        sa.select(*groups, last.label("at"), sa.func.count().label("objects"), reason.label("reason"))
        .select_from(delivery.join(result).join(job, job.c.id == result.c.job_id))
        .where(job.c.study_uid == uid)
        .group_by(*groups)
    )
    for row in connection.execute(query):
        text = f"{row.objects} objects of job {row.job_id}" + (f": {row.reason}" if row.reason else "")
        yield Moment(row.at, f"{row.destination} {row.state}", text, row.state == "DEAD")


def _reviewed(connection: sa.Connection, uid: str) -> Iterator[Moment]:
    query = sa.select(review).join(job, job.c.id == review.c.job_id).where(job.c.study_uid == uid)
    for row in connection.execute(query):
        yield Moment(row.at, f"reviewed by {row.user}", row.note or f"the result of job {row.job_id}")


def _quarantined(connection: sa.Connection, uid: str) -> Iterator[Moment]:
    stored = instance.c.sop_instance_uid == quarantine.c.sop_instance_uid
    query = sa.select(sa.func.count(), sa.func.max(quarantine.c.received_at)).select_from(
        quarantine.join(instance, stored)
    )
    count, at = connection.execute(query.where(instance.c.study_uid == uid)).one()
    if count:
        yield Moment(at, "quarantined", f"{count} images came again with other content", bad=True)
