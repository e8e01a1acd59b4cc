"""Ended studies -> free space: their images and delivered results are removed by age and by space.

The files to remove are recorded first (`removal`), then the files are removed, then their rows. If rows were removed
first, a crash would leave files without rows, which `archive.sweep` adopts, so that removed images would come back.
Also, an image sent again meanwhile would write the same file name and lose its file to the removal of the old one. As
it is, its row stays until the end, so that the image counts as a copy of the one that is here. After a crash, `finish`
completes the removal before the sweep. Rows of jobs, results and deliveries stay, so that a pair sent again makes no
second result.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..errors import Unavailable
from ..settings.config import RetentionSettings
from ..settings.destinations import Destination
from ..settings.layout import Layout
from .database import Database
from .durable import sync_folders
from .events import Event, record
from .tables import delivery, event, instance, job, removal, result, study, study_key

LOG = logging.getLogger(__name__)

Removed = Callable[[sa.Connection, str], None]

GB = 1e9
DAY = 86400.0
#: Most studies removed at one tick; the rest follow at the next.
BATCH = 20
#: States of a study and of a job that do not change by themselves any more.
ENDED_STUDY = ("PAIRED", "REFUSED", "OVERDUE", "REMOVED")
ENDED_JOB = ("DONE", "REFUSED", "FAILED", "SUPERSEDED", "CANCELLED")


@dataclass(frozen=True)
class Candidate:
    """A study that may be removed.

    Parameters
    ----------
    study_uid : str
    last : float
        Time at which its last image was received (s since 1970).
    size : int
        Size of its images (bytes).
    """

    study_uid: str
    last: float
    size: int


def retain(
    database: Database,
    storage: Path,
    settings: RetentionSettings,
    destinations: Sequence[Destination],
    now: float,
    free: Callable[[], float],
    removed: Removed = lambda connection, study_uid: None,
) -> int:
    """Remove studies that are old or must make room, and return how many were removed.

    Parameters
    ----------
    database : Database
    storage : Path
    settings : RetentionSettings
    destinations : sequence of Destination
        Destinations that must have each result: confirmed where they offer storage commitment, else accepted.
    now : float
    free : callable
        Returns the free space on the disk (bytes).
    removed : callable
        Called in the transaction that records a study as removed.
    """
    finish(database, storage, now, removed)
    ended = _ended(destinations)
    stored = _stored(database) if settings.max_archive_gb else 0.0  # every row is read for it
    chosen = due(_candidates(database, ended), settings, now, free(), stored)
    for candidate, why in chosen[:BATCH]:
        if _mark(database, Layout(storage), candidate.study_uid, ended, why):
            finish(database, storage, now, removed)
    return len(chosen[:BATCH])


def due(
    candidates: Iterable[Candidate], settings: RetentionSettings, now: float, free: float, stored: float
) -> list[tuple[Candidate, str]]:
    """Return the studies to remove, the oldest first, each with the reason.

    Parameters
    ----------
    candidates : iterable of Candidate
    settings : RetentionSettings
    now : float
    free, stored : float
        Free space on the disk and size of all stored images (bytes).

    Examples
    --------
    >>> old, new = Candidate("1.2", 0.0, 10**9), Candidate("1.3", 9 * DAY, 10**9)
    >>> [why for _, why in due([new, old], RetentionSettings(days=5), 10 * DAY, 0.0, 2e9)]
    ['no image for 5 days']
    >>> [c.study_uid for c, _ in due([new, old], RetentionSettings(max_archive_gb=1), 10 * DAY, 0.0, 2e9)]
    ['1.2']
    """
    chosen = []
    for candidate in sorted(candidates, key=lambda c: (c.last, c.study_uid)):
        if settings.days and candidate.last < now - settings.days * DAY:
            why = f"no image for {settings.days:g} days"
        elif free < settings.min_free_gb * GB:
            why = f"less than {settings.min_free_gb:g} GB were free"
        elif settings.max_archive_gb and stored > settings.max_archive_gb * GB:
            why = f"more than {settings.max_archive_gb:g} GB were stored"
        else:
            break
        chosen.append((candidate, why))
        free, stored = free + candidate.size, stored - candidate.size
    return chosen


def finish(
    database: Database,
    storage: Path,
    now: float,
    removed: Removed = lambda connection, study_uid: None,
) -> None:
    """Remove everything that is recorded for removal: files, then rows; it may be repeated after a crash."""
    with database.reading() as connection:
        rows = connection.execute(sa.select(removal).order_by(removal.c.study_uid)).all()
    for study_uid in dict.fromkeys(row.study_uid for row in rows):
        mine = [row for row in rows if row.study_uid == study_uid]
        _delete([storage / row.path for row in mine])
        paths = sa.select(removal.c.path).where(removal.c.study_uid == study_uid)
        # a study that got images meanwhile is looked at again and keeps its state until then
        settled = study.c.study_uid == study_uid, study.c.due_at.is_(None)
        state = {"state": "REMOVED", "reason": mine[0].reason, "since": now}
        with database.writing() as connection:
            images = connection.execute(sa.delete(instance).where(instance.c.path.in_(paths))).rowcount
            _forget_results(connection, paths)
            connection.execute(sa.update(study).where(*settled).values(**state))
            connection.execute(sa.delete(removal).where(removal.c.study_uid == study_uid))
            for forgotten in (event, study_key):  # a node that runs for years must not fill its database
                connection.execute(sa.delete(forgotten).where(forgotten.c.study_uid == study_uid))
            text = f"{images} images removed: {mine[0].reason}"
            record(connection, Event(now, "removed", study_uid, text=text))
            removed(connection, study_uid)
        LOG.info("study %s: %d images removed: %s", study_uid, images, mine[0].reason)


def _forget_results(connection: sa.Connection, paths: sa.Select[Any]) -> None:
    """Remove the rows of results whose files are removed, and of their deliveries, which have arrived."""
    gone = [path for path in connection.scalars(paths) if Path(path).parent.name == "results"]
    numbers = [int(Path(path).name) for path in gone]
    mine = sa.select(result.c.sop_instance_uid).where(result.c.job_id.in_(numbers))
    connection.execute(sa.delete(delivery).where(delivery.c.sop_instance_uid.in_(mine)))
    connection.execute(sa.delete(result).where(result.c.job_id.in_(numbers)))
    # the job's row stays, without its list of images and slices, which is most of its size
    connection.execute(sa.update(job).where(job.c.id.in_(numbers)).values(pair=""))


def _delete(paths: Sequence[Path]) -> None:
    try:
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(f"{error.filename} cannot be removed: {error.strerror}") from error
    sync_folders({path.parent for path in paths if path.parent.is_dir()})


def _ended(destinations: Sequence[Destination]) -> sa.ColumnElement[bool]:
    """Return the condition on an instance that its study has ended and every result has been delivered."""
    confirming = [d.name for d in destinations if d.confirms]
    arrived = sa.or_(
        delivery.c.state == "CONFIRMED",
        sa.and_(delivery.c.state == "SENT", delivery.c.destination.not_in(confirming)),
    )
    own = study.c.study_uid == instance.c.study_uid
    open_study = sa.exists().where(
        own, sa.or_(study.c.state.not_in(ENDED_STUDY), study.c.due_at.is_not(None))
    )
    # a pair may have its phases in two studies: both are needed as long as one of them is
    its_pair = sa.or_(job.c.study_uid == instance.c.study_uid, job.c.other_study_uid == instance.c.study_uid)
    open_job = sa.exists().where(its_pair, job.c.state.not_in(ENDED_JOB))
    partner = sa.exists().where(
        its_pair,
        job.c.other_study_uid.is_not(None),
        study.c.study_uid.in_((job.c.study_uid, job.c.other_study_uid)),
        sa.or_(study.c.state.not_in(ENDED_STUDY), study.c.due_at.is_not(None)),
    )
    on_the_way = sa.exists().where(
        its_pair,
        result.c.job_id == job.c.id,
        delivery.c.sop_instance_uid == result.c.sop_instance_uid,
        ~arrived,
    )
    return sa.and_(instance.c.study_uid.is_not(None), ~open_study, ~partner, ~open_job, ~on_the_way)


def _candidates(database: Database, ended: sa.ColumnElement[bool]) -> list[Candidate]:
    columns = instance.c.study_uid, sa.func.max(instance.c.received_at), sa.func.sum(instance.c.size)
    query = sa.select(*columns).where(ended).group_by(instance.c.study_uid)
    partners = sa.select(job.c.study_uid, job.c.other_study_uid).where(job.c.other_study_uid.is_not(None))
    with database.reading() as connection:
        found = {uid: Candidate(uid, last, int(size)) for uid, last, size in connection.execute(query)}
        for pair in connection.execute(partners.distinct()):
            both = [found[uid] for uid in pair if uid in found]
            if len(both) == len(pair):  # the studies of one pair are as old as the newer of them
                newer = max(candidate.last for candidate in both)
                found |= {one.study_uid: replace(one, last=newer) for one in both}
    return list(found.values())


def _stored(database: Database) -> float:
    with database.reading() as connection:
        return float(connection.scalar(sa.select(sa.func.sum(instance.c.size))) or 0)


def _mark(
    database: Database, layout: Layout, study_uid: str, ended: sa.ColumnElement[bool], why: str
) -> bool:
    """Record which files of a study to remove; return False where the study has not ended after all."""
    with database.writing() as connection:
        images = sa.select(instance.c.path).where(instance.c.study_uid == study_uid, ended)
        paths = list(connection.scalars(images))
        if paths:
            # a result that was sent nowhere exists only here
            sent = sa.exists().where(
                result.c.job_id == job.c.id, delivery.c.sop_instance_uid == result.c.sop_instance_uid
            )
            made = connection.scalars(sa.select(job.c.id).where(job.c.study_uid == study_uid, sent))
            paths += [layout.relative(layout.results_of(number)) for number in made]
            rows = [{"path": path, "study_uid": study_uid, "reason": why} for path in paths]
            connection.execute(database.insert(removal).on_conflict_do_nothing(), rows)
    return bool(paths)
