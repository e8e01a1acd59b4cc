"""One job, in a process of its own: load, analyse, make the objects, store them, queue them for delivery."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
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
from ..model import DEFAULT_OBJECTS
from ..pairing.analyse import STAGES, analyse_pair
from ..pairing.lobes_program import draw_lobes
from ..processes import begin
from ..results.context import read_case
from ..results.files import picture, record_of
from ..results.kinds import build_objects
from ..results.record import NAME
from ..store.archive import Archive
from ..store.database import Database
from ..store.durable import make_folder, write_file
from ..store.tables import result
from . import priors
from . import queue as jobs

if TYPE_CHECKING:
    from pydicom import Dataset

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What a worker process is told."""

    database_url: str
    storage: Path
    job_id: int
    attempt: int
    destinations: tuple[tuple[str, tuple[str, ...]], ...]
    nice: int
    lobes_command: tuple[str, ...]
    prepare: Callable[[], None] | None


def run(order: Order) -> None:
    """Run one job to its verdict (the target of the worker process).

    Whatever goes wrong becomes a state of the job with a sentence; the log gets the trace of a bug without
    the exception's message, which may quote patient data.
    """
    begin(order.prepare, order.nice)
    database = Database(order.database_url)
    job = jobs.read(database, order.job_id)
    now = time.time
    try:
        _work(database, order, job)
    except (Rejected, analysis_errors.Rejected) as error:
        LOG.warning("job %d refused: %s", job.id, error)
        _verdict(database, order, "refuse", reason=str(error))
    except Unavailable as error:
        LOG.warning("job %d postponed: %s", job.id, error)
        _verdict(database, order, "postpone", reason=str(error), due_at=now() + jobs.POSTPONED)
    except Exception as error:  # noqa: BLE001  the boundary of the process: recorded as the job's state
        frames = traceback.extract_tb(error.__traceback__)
        LOG.error(
            "job %d failed: %s\n%s", job.id, type(error).__name__, "".join(traceback.format_list(frames))
        )
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
        _verdict(database, order, "fail", reason=f"internal error: {type(error).__name__} at {where}")


def _verdict(database: Database, order: Order, name: jobs.MoveName, **values: str | float) -> None:
    with database.writing() as connection:
        jobs.move(connection, order.job_id, name, time.time(), during=order.attempt, **values)


def _work(database: Database, order: Order, job: jobs.Job) -> None:
    report = _Report(database, order)
    archive = Archive(order.storage, database)
    uids = (*job.pair.inspiratory.sop_instance_uids, *job.pair.expiratory.sop_instance_uids)
    paths = archive.paths(uids)
    lobes = partial(draw_lobes, order.lobes_command) if order.lobes_command else None
    created = datetime.fromtimestamp(job.created).astimezone()
    case = read_case(job.pair, paths, created, job.fingerprint)
    analysis, pair = analyse_pair(job.pair, paths, job.parameters, report, lobes)
    report("objects", 0.0)
    wanted = {*DEFAULT_OBJECTS, *(kind for _, kinds in order.destinations for kind in kinds)}
    case = case.ordered(pair)
    analysis = replace(analysis, findings=(*analysis.findings, *case.findings()))
    about = case.patient, case.acquired, analysis.version, analysis.measures["lungs"]
    case = replace(case, trend=priors.trend(database, job.id, *about))
    objects = build_objects(analysis, case, lambda: load_volume(pair.expiratory, paths), wanted)
    aside = {"overview.png": picture(analysis), NAME: record_of(analysis, case).dump()}
    rows, kinds = _store(order, objects, aside)
    now = time.time()
    with database.writing() as connection:
        if not jobs.move(connection, job.id, "finish", now, during=order.attempt, stage="", fraction=1.0):
            LOG.warning("job %d: attempt %d was given up meanwhile", job.id, order.attempt)
            return
        priors.keep(database, connection, job.id, *about)
        for row in rows:
            connection.execute(database.insert(result).values(job_id=job.id, **row).on_conflict_do_nothing())
        for destination, taken in order.destinations:
            uids = tuple(r["sop_instance_uid"] for r, kind in zip(rows, kinds, strict=True) if kind in taken)
            deliver.queue(database, connection, uids, [destination], now)
    LOG.info("job %d done: %d objects", job.id, len(rows))


def _store(
    order: Order, objects: Iterable[tuple[str, Dataset]], aside: Mapping[str, bytes]
) -> tuple[list[dict[str, str]], list[str]]:
    """Write the objects, and further files, durably; a further attempt writes the same bytes to the same names.

    Returns
    -------
    (list of row, list of kind)
    """
    folder = make_folder(order.storage / "results" / str(order.job_id))
    drafts = make_folder(order.storage / "incoming")
    for name, content in aside.items():
        write_file(folder / name, [content], drafts)
    rows, kinds = [], []
    for n, (kind, ds) in enumerate(objects, 1):
        target = folder / f"{n:04d}-{kind}.dcm"
        buffer = BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        write_file(target, [buffer.getbuffer()], drafts)
        path = target.relative_to(order.storage).as_posix()
        uids = {"sop_instance_uid": str(ds.SOPInstanceUID), "sop_class_uid": str(ds.SOPClassUID)}
        rows.append({**uids, "path": path})
        kinds.append(kind)
    return rows, kinds


class _Report:
    """Progress into the job's row, at most once a second and at every new stage."""

    def __init__(self, database: Database, order: Order) -> None:
        self._database, self._order = database, order
        self._stage, self._at = "", 0.0

    def __call__(self, stage: str, share: float) -> None:
        now = time.monotonic()
        if stage == self._stage and now - self._at < 1.0:
            return
        self._stage, self._at = stage, now
        begins = STAGES[stage]
        ends = min((s for s in STAGES.values() if s > begins), default=1.0)
        fraction = begins + (ends - begins) * min(max(share, 0.0), 1.0)
        jobs.progress(self._database, self._order.job_id, self._order.attempt, stage, fraction)
