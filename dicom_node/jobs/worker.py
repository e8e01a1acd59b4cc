"""One job in a process of its own: load, analyse, make the objects, store them, queue them for delivery."""

from __future__ import annotations

import hashlib
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import errors as analysis_errors

from ..delivery import queue as deliver
from ..dicom.pixels import load_volume
from ..errors import Rejected, Unavailable
from ..pairing.analyse import analyse_pair, share_done
from ..pairing.lobes_program import draw_lobes
from ..results.context import read_case
from ..results.files import picture, record_of
from ..results.kinds import DEFAULT_OBJECTS, build_objects
from ..results.measures_file import NAME as MEASURES
from ..results.measures_file import measures_bytes
from ..results.record import NAME as RECORD
from ..settings.layout import Layout
from ..store.archive import Archive
from ..store.database import Database
from ..store.durable import make_folder, name_files, sync_folders, write_draft
from ..store.identity import identity_of, present
from ..store.keys import keyed, patients_key
from ..store.tables import result
from . import attempts, priors
from . import queue as jobs
from .order import Order

if TYPE_CHECKING:
    from pydicom import Dataset

LOG = logging.getLogger(__name__)

#: Time for which a worker tries to record its verdict (s).
VERDICT_SECONDS = 60.0


def work(order: Order) -> None:
    """Work on one job until it has a verdict, in a process that is set up already; see `order.run`.

    Every error becomes a state of the job with one sentence. The log gets the trace of a bug without the exception's
    message, which may quote patient data.
    """
    try:
        # `tempfile` writes here; the node removes what a killed worker leaves
        tempfile.tempdir = str(make_folder(Layout(order.storage).workspace(order.job_id, order.attempt)))
        _attempt(Database(order.database_url, identity=order.identity), order)
    except Unavailable as error:
        LOG.error("job %d: its verdict cannot be written: %s", order.job_id, error)
        sys.exit(attempts.TEMPFAIL)


def _attempt(database: Database, order: Order) -> None:
    """Work on a job and record its verdict.

    Raises
    ------
    Unavailable
        Where the verdict cannot be recorded within `VERDICT_SECONDS`.
    """
    try:
        _work(database, order, jobs.read(database, order.job_id))
    except (Rejected, analysis_errors.Rejected) as error:
        LOG.warning("job %d refused: %s", order.job_id, error)
        _verdict(database, order, "refuse", reason=str(error))
    except Unavailable as error:
        _postpone(database, order, str(error))
    except MemoryError:
        LOG.error("job %d failed: out of memory", order.job_id)
        limit = f"it needs more memory than the {order.memory_mb} MB of jobs.memory_mb"
        _verdict(database, order, "fail", reason=limit)
    except Exception as error:  # noqa: BLE001  the boundary of the process: recorded as the job's state
        if why := _disk_at_fault(database, order, error):
            _postpone(database, order, why)
            return
        frames = traceback.extract_tb(error.__traceback__)
        LOG.error(
            "job %d failed: %s\n%s",
            order.job_id, type(error).__name__, "".join(traceback.format_list(frames)),
        )  # fmt: skip
        _verdict(database, order, "fail", reason=_in_words(order, error, frames[-1]))


def _postpone(database: Database, order: Order, why: str) -> None:
    LOG.warning("job %d postponed: %s", order.job_id, why)
    _verdict(database, order, "postpone", reason=why, due_at=time.time() + jobs.POSTPONED)


def _disk_at_fault(database: Database, order: Order, error: Exception) -> str:
    """Return why an attempt failed, where the storage is away or its disk fails, else ""."""
    try:
        present(Layout(order.storage), identity_of(database))
    except Unavailable as away:
        return str(away)
    if not isinstance(error, OSError) or error.errno is None or _missing(error) is not None:
        return ""
    return f"the disk fails: {error.strerror}"


def _missing(error: Exception) -> Path | None:
    """Return the file that an error says is missing, if it is missing still."""
    if not isinstance(error, FileNotFoundError) or error.filename is None:
        return None
    return None if Path(error.filename).exists() else Path(error.filename)


def _in_words(order: Order, error: Exception, where: traceback.FrameSummary) -> str:
    if (file := _missing(error)) is not None and file.is_relative_to(order.storage):
        return (
            f"{file.relative_to(order.storage)} is missing from the storage: send the images again, and retry"
        )
    return f"internal error: {type(error).__name__} at {Path(where.filename).name}:{where.lineno}"


def _verdict(database: Database, order: Order, name: jobs.MoveName, **values: str | float) -> None:
    """Record a verdict, trying again for a while where the database cannot be reached."""
    end = time.monotonic() + VERDICT_SECONDS
    while True:
        try:
            with database.writing() as connection:
                jobs.move(connection, order.job_id, name, time.time(), during=order.attempt, **values)
            return
        except Unavailable:
            if time.monotonic() > end:
                raise
            time.sleep(1.0)


def _work(database: Database, order: Order, job: jobs.Job) -> None:
    report = _Report(database, order)
    archive = Archive(order.storage, database)
    uids = (*job.pair.inspiratory.sop_instance_uids, *job.pair.expiratory.sop_instance_uids)
    paths = archive.paths(uids)
    lobes = partial(draw_lobes, order.lobes_command) if order.lobes_command else None
    created = datetime.fromtimestamp(job.created).astimezone()
    case = replace(read_case(job.pair, paths, created, job.fingerprint), style=order.style)
    analysis, pair = analyse_pair(job.pair, paths, job.parameters, report, lobes)
    report("objects", 0.0)
    wanted = {*DEFAULT_OBJECTS, *(kind for _, kinds in order.destinations for kind in kinds)}
    case = case.ordered(pair)
    analysis = replace(analysis, findings=(*analysis.findings, *case.findings()))
    about = (
        keyed(patients_key(archive.layout), case.patient),
        case.acquired,
        analysis.version,
        analysis.measures["lungs"],
    )
    case = replace(case, trend=priors.trend(database, job.id, *about))
    objects = build_objects(analysis, case, lambda: load_volume(pair.expiratory, paths), wanted)
    record = record_of(analysis, case)
    aside = {
        "overview.png": picture(analysis, order.style),
        MEASURES: measures_bytes(record),
        RECORD: record.dump(),
    }
    made = store(order, objects, aside)
    rows, kinds = made.rows, made.kinds
    now = time.time()
    with database.writing() as connection:
        if not jobs.move(connection, job.id, "finish", now, during=order.attempt, stage="", fraction=1.0):
            LOG.warning("job %d: attempt %d was given up meanwhile", job.id, order.attempt)
            return
        made.publish()  # after the move, which no other attempt can make now, and before its commit
        priors.keep(database, connection, job.id, *about)
        for row in rows:
            insert = database.insert(result).values(job_id=job.id, **row)
            again = {"path": insert.excluded.path, "sha256": insert.excluded.sha256}
            connection.execute(insert.on_conflict_do_update(index_elements=["sop_instance_uid"], set_=again))
        for destination, taken in order.destinations:
            uids = tuple(r["sop_instance_uid"] for r, kind in zip(rows, kinds, strict=True) if kind in taken)
            deliver.queue(database, connection, uids, [destination], now)
    LOG.info("job %d done: %d objects", job.id, len(rows))


@dataclass(frozen=True)
class Made:
    """The files of one attempt, durable in a folder of their own, and what they will be called.

    Parameters
    ----------
    folder : Path
        Folder of the job's results.
    drafts : list of (Path, Path)
        Each file, and its path once it is published.
    rows : list of row
        Rows of the objects.
    kinds : list of str
        Kinds of the objects.
    """

    folder: Path
    drafts: list[tuple[Path, Path]]
    rows: list[dict[str, str]]
    kinds: list[str]

    def publish(self) -> None:
        """Give the files their names, durably, in place of those of an earlier attempt.

        Two attempts may run at one time, where a machine was cut off and came back, and on another processor the
        last bit may differ. So only the attempt whose verdict counts publishes, in the transaction that says so.
        """
        make_folder(self.folder)
        name_files(self.drafts)
        sync_folders({self.folder})


def store(order: Order, objects: Iterable[tuple[str, Dataset]], aside: Mapping[str, bytes]) -> Made:
    """Write the objects and further files durably into the folder of this attempt."""
    layout = Layout(order.storage)
    folder = layout.results_of(order.job_id)
    workspace = make_folder(layout.workspace(order.job_id, order.attempt))
    drafts = [(write_draft([content], workspace), folder / name) for name, content in aside.items()]
    rows, kinds = [], []
    for n, (kind, ds) in enumerate(objects, 1):
        target = folder / f"{n:04d}-{kind}.dcm"
        buffer = BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        drafts.append((write_draft([buffer.getbuffer()], workspace), target))
        uids = {"sop_instance_uid": str(ds.SOPInstanceUID), "sop_class_uid": str(ds.SOPClassUID)}
        digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
        rows.append({**uids, "path": layout.relative(target), "sha256": digest})
        kinds.append(kind)
    return Made(folder, drafts, rows, kinds)


class _Report:
    """Writes progress to the job's row at every new stage, and otherwise at most once a second."""

    def __init__(self, database: Database, order: Order) -> None:
        self._database, self._order = database, order
        self._stage, self._at = "", 0.0

    def __call__(self, stage: str, share: float) -> None:
        now = time.monotonic()
        if stage == self._stage and now - self._at < 1.0:
            return
        self._stage, self._at = stage, now
        done = share_done(stage, share)
        attempts.progress(self._database, self._order.job_id, self._order.attempt, stage, done, time.time())
