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
from analysis.figures.overview import overview
from analysis.measures.quality import Acquisition
from analysis.pipeline.pipeline import Analysis, Parameters, Phase, analyse_phases, order_phases

from ..child import begin
from ..delivery import queue as deliver
from ..dicom.lobe_masks import LobeSource, draw_lobes
from ..dicom.pixels import load_volume
from ..errors import Rejected, Unavailable
from ..model import DEFAULT_OBJECTS, Pair, Series
from ..results.context import Case, read_case
from ..results.kinds import build_objects
from ..results.record import NAME, Record
from ..store.archive import Archive
from ..store.database import Database, result
from ..store.durable import make_folder, write_file
from . import priors
from . import queue as jobs

if TYPE_CHECKING:
    from pydicom import Dataset

LOG = logging.getLogger(__name__)

Progress = Callable[[str, float], None]

#: Share of a job's time at which each stage begins, as measured on a 512 x 512 x 150 pair.
STAGES: Mapping[str, float] = {
    "reading": 0.0,
    "lungs": 0.05,
    "registration": 0.28,
    "maps": 0.84,
    "measures": 0.86,
    "objects": 0.88,
}
#: End of Patient Position (0018,5100: supine, prone, decubitus right or left) -> away from the floor, LPS.
UP: Mapping[str, tuple[float, float, float]] = {
    "S": (0.0, -1.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "DR": (1.0, 0.0, 0.0),
    "DL": (-1.0, 0.0, 0.0),
}


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


def analyse_pair(
    pair: Pair,
    paths: Mapping[str, Path],
    parameters: Parameters,
    progress: Progress,
    lobes: LobeSource | None = None,
) -> tuple[Analysis, Pair]:
    """Load both series, tell inspiration from expiration, analyse.

    Parameters
    ----------
    pair : Pair
    paths : mapping of SOP Instance UID to Path
    parameters : Parameters
    progress : callable
        Called with a stage of `STAGES` and the share of that stage done, 0…1.
    lobes : callable, optional
        Makes a mask of lobes, given the first series.

    Returns
    -------
    (Analysis, Pair)
        The pair with the phases in the order the lung volumes say.

    Raises
    ------
    Rejected, analysis.errors.Rejected
        Where the images cannot give a valid result, or a series says one phase and its lungs another.
    """
    phases, mask = [], None
    for n, series in enumerate((pair.inspiratory, pair.expiratory)):
        volume = load_volume(series, paths, lambda share, n=n: progress("reading", (n + share) / 2))  # type: ignore[misc]
        progress("lungs", n / 2)
        try:
            phases.append(Phase.of(volume, parameters))
        except analysis_errors.Rejected as error:
            raise Rejected(f"series {series.series_instance_uid}: {error}") from error
        if lobes is not None and n == 0:
            mask = lobes(volume)
        del volume
    ordered = in_order(pair, (phases[0].lung_ml, phases[1].lung_ml))
    insp, exp = order_phases(*phases)
    made = acquisition(ordered.inspiratory), acquisition(ordered.expiratory)
    return analyse_phases(insp, exp, parameters, progress, made, mask), ordered


def in_order(pair: Pair, lung_ml: tuple[float, float]) -> Pair:
    """The pair as its lung volumes order it: the larger lungs are inspiration.

    Parameters
    ----------
    lung_ml : (float, float)
        Of ``pair.inspiratory`` and ``pair.expiratory``, mL.

    Raises
    ------
    Rejected
        Where a series says it is the other phase.
    """
    if lung_ml[0] >= lung_ml[1]:
        ordered, volumes = pair, lung_ml
    else:
        ordered = replace(pair, inspiratory=pair.expiratory, expiratory=pair.inspiratory)
        volumes = (lung_ml[1], lung_ml[0])
    insp, exp = ordered.inspiratory, ordered.expiratory
    for series, own, other, wrong, how in (
        (insp, volumes[0], volumes[1], "expiration", "larger"),
        (exp, volumes[1], volumes[0], "inspiration", "smaller"),
    ):
        if series.phase == wrong:
            raise Rejected(
                f"series {series.series_instance_uid} says {wrong} ({series.evidence}), but its lungs are"
                f" {how} ({own:.0f} ml) than those of the other series ({other:.0f} ml)"
            )
    return ordered


def acquisition(series: Series) -> Acquisition:
    """What the quality checks want to know of how a series was made."""
    thickness = max(series.gap, series.slices[0].thickness or 0.0)
    return Acquisition(series.kernel, thickness, series.contrast, UP.get(series.patient_position[2:]))


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
    analysis, pair = analyse_pair(job.pair, paths, job.parameters, report, lobes)
    report("objects", 0.0)
    created = datetime.fromtimestamp(job.created).astimezone()
    wanted = {*DEFAULT_OBJECTS, *(kind for _, kinds in order.destinations for kind in kinds)}
    case = read_case(pair, paths, created, job.fingerprint)
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


def record_of(analysis: Analysis, case: Case) -> Record:
    """What is kept of a result besides its DICOM objects."""
    insp, exp = case.pair.inspiratory, case.pair.expiratory
    return Record(analysis, case.patient, insp.series_instance_uid, exp.series_instance_uid, case.acquired)


def picture(analysis: Analysis) -> bytes:
    """The overview as a PNG file."""
    buffer = BytesIO()
    overview(analysis).savefig(buffer, format="png")
    return buffer.getvalue()


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
