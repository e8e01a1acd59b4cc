"""One study -> its series with their phases, its jobs and deliveries, and all that happened to it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from ..errors import Rejected
from ..model import Assembled, Header, PairingRules
from ..pairing.stacks import assemble, with_assigned
from ..store.database import Database
from ..store.events import timeline
from ..store.tables import assignment, delivery, instance, job, result, study
from ..strict_json import load
from .status import Delivery, Job, Study, jobs_of, studies_of


@dataclass(frozen=True)
class SeriesStatus:
    """A series of a study as far as its headers are read.

    Parameters
    ----------
    series_uid : str
    instances : int
    size : int
        Size of its data sets (bytes).
    phase : str
        What its stack is taken for: "inspiration", "expiration", or "" where that is not known.
    evidence : str
        Where the phase was found, or why the series cannot be part of a pair.
    assigned : str
        What an operator said it is: a phase, "none", or "" for nothing.
    """

    series_uid: str
    instances: int
    size: int
    phase: str
    evidence: str
    assigned: str


@dataclass(frozen=True)
class Happened:
    """A line of the timeline: time (s since 1970) and a sentence."""

    at: float
    what: str


@dataclass(frozen=True)
class StudyStatus:
    """All that the node knows of a study, without the patient."""

    study: Study
    series: tuple[SeriesStatus, ...]
    jobs: tuple[Job, ...]
    deliveries: tuple[Delivery, ...]
    timeline: tuple[Happened, ...]


def study_status(database: Database, study_uid: str, rules: PairingRules) -> StudyStatus:
    """Return the state of one study.

    Parameters
    ----------
    rules : PairingRules
        By which its series are read.

    Raises
    ------
    Rejected
        Where there is no such study.
    """
    with database.reading() as connection:
        row = connection.execute(studies_of(study.c.study_uid == study_uid)).one_or_none()
        if row is None:
            raise Rejected(f"there is no study {study_uid}")
        jobs = tuple(Job(**r._mapping) for r in connection.execute(jobs_of(job.c.study_uid == study_uid)))
        return StudyStatus(
            Study(**row._mapping),
            _series(connection, study_uid, rules),
            jobs,
            _deliveries(connection, [one.id for one in jobs]),
            _timeline(connection, study_uid),
        )


def _series(connection: sa.Connection, study_uid: str, rules: PairingRules) -> tuple[SeriesStatus, ...]:
    mine = instance.c.study_uid == study_uid
    sums = sa.select(instance.c.series_uid, sa.func.count(), sa.func.sum(instance.c.size)).where(mine)
    counts = connection.execute(sums.group_by(instance.c.series_uid).order_by(instance.c.series_uid)).all()
    texts = connection.scalars(sa.select(instance.c.header).where(mine, instance.c.header.is_not(None)))
    found = assemble([load(Header, text) for text in texts], rules)
    query = sa.select(assignment).where(assignment.c.series_uid.in_([uid for uid, *_ in counts]))
    assigned = {r.series_uid: r.phase for r in connection.execute(query)}
    read = _phases(with_assigned(found, assigned))
    nothing = "", "no CT images that could be part of a pair"
    return tuple(
        SeriesStatus(uid, count, int(size), *read.get(uid, nothing), assigned.get(uid, ""))
        for uid, count, size in counts
    )


def _phases(found: Assembled) -> dict[str, tuple[str, str]]:
    """Return phase and evidence of each series; of one that holds several stacks, all of them."""
    read: dict[str, list[tuple[str, str]]] = {}
    for stack in found.series:
        sentence = f"{len(stack.slices)} slices of {stack.gap:g} mm: {stack.evidence}"
        read.setdefault(stack.series_instance_uid, []).append((stack.phase or "", sentence))
    for refusal in found.refused:
        read.setdefault(refusal.series_instance_uid, []).append(("", refusal.reason))
    return {
        uid: (
            ", ".join(dict.fromkeys(phase for phase, _ in rows if phase)),
            "; ".join(text for _, text in rows),
        )
        for uid, rows in read.items()
    }


def _deliveries(connection: sa.Connection, jobs: list[int]) -> tuple[Delivery, ...]:
    groups = result.c.job_id, delivery.c.destination, delivery.c.state
    values = (
        sa.func.count().label("objects"),
        sa.func.max(delivery.c.attempts).label("attempts"),
        sa.func.min(sa.case((delivery.c.state == "QUEUED", delivery.c.due_at))).label("due_at"),
        sa.func.max(delivery.c.reason).label("reason"),
    )
    query = sa.select(*groups, *values).select_from(delivery.join(result)).where(result.c.job_id.in_(jobs))
    ordered = query.group_by(*groups).order_by(result.c.job_id.desc(), delivery.c.destination)
    return tuple(Delivery(**row._mapping) for row in connection.execute(ordered))


def _timeline(connection: sa.Connection, study_uid: str) -> tuple[Happened, ...]:
    """Merge what was recorded with what the rows of the images tell of how they came."""
    came = (
        sa.select(
            instance.c.calling_ae,
            sa.func.count().label("count"),
            sa.func.sum(instance.c.size).label("size"),
            sa.func.min(instance.c.received_at).label("first"),
            sa.func.max(instance.c.received_at).label("last"),
        )
        .where(instance.c.study_uid == study_uid)
        .group_by(instance.c.calling_ae)
    )
    lines = []
    for row in connection.execute(came):
        seconds = row.last - row.first
        sender = f"from {row.calling_ae}" if row.calling_ae else "found in the storage"
        text = f"{row.count} images {sender}, {row.size / 1e6:.1f} MB in {seconds:.1f} s"
        lines.append(Happened(row.first, text))
    lines += [Happened(one.at, one.text) for one in timeline(connection, study_uid)]
    return tuple(sorted(lines, key=lambda line: line.at))
