"""DLCO that people entered or imported, beside the results in this node: the scatter of a study of many patients."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from analysis.cohort.statistics import correlate
from analysis.errors import AnalysisError

from ..errors import Rejected
from ..research.cohort import Folders, read_cohort
from ..research.cohort_report import write_report
from ..research.cohort_table import Row, read_table
from ..store.page_tables import dlco
from ..store.tables import job, outcome
from .problems import Conflict, NotThere
from .site import Ask, Site

#: Most points of the scatter, the newest ones, and the largest table (bytes).
POINTS, LARGEST = 5000, 1 << 20
MEASURE = "total_abnormal"


@dataclass(frozen=True)
class Point:
    """A study with a result and a DLCO, both in percent."""

    study_uid: str
    job_id: int
    cohort: str
    dlco: float
    total_abnormal: float


@dataclass(frozen=True)
class Line:
    """The regression of DLCO on total abnormal, with Pearson's r, its 95 % interval and p."""

    n: int
    r: float
    low: float
    high: float
    p: float
    slope: float
    intercept: float


@dataclass(frozen=True)
class CohortPage:
    """Every study of this node that has both, and what can be said of them together."""

    points: tuple[Point, ...]
    line: Line | None
    known: int
    chosen: int


@dataclass(frozen=True)
class Imported:
    """How many rows of a table were taken, and a sentence for each that was not."""

    taken: int
    left_out: tuple[str, ...]


def cohort_page(site: Site, ask: Ask) -> CohortPage:
    """Return the scatter; the value `job` marks the point of one result."""
    with site.database.reading() as connection:
        query = (
            sa.select(dlco.c.study_uid, dlco.c.cohort, dlco.c.percent, job.c.id, outcome.c.measures)
            .join(job, job.c.study_uid == dlco.c.study_uid)
            .join(outcome, outcome.c.job_id == job.c.id)
            .where(job.c.state == "DONE")
            .order_by(job.c.id)
        )
        newest = {row.study_uid: row for row in connection.execute(query)}
        known = connection.scalar(sa.select(sa.func.count()).select_from(dlco)) or 0
    points = []
    for row in list(newest.values())[-POINTS:]:
        value = json.loads(row.measures).get(MEASURE)
        if value is not None and math.isfinite(value):
            points.append(Point(row.study_uid, row.id, row.cohort, row.percent, value))
    text = ask.query.get("job", "")
    chosen = int(text) if text.isdecimal() and len(text) < 10 else 0
    return CohortPage(tuple(points), _line(points), known, chosen)


def _line(points: list[Point]) -> Line | None:
    try:
        found = correlate([p.total_abnormal for p in points], [p.dlco for p in points])
    except AnalysisError:  # too few, or all the same
        return None
    r = found.r
    return Line(found.n, r.value, r.low, r.high, found.p, found.slope, found.intercept)


def import_table(site: Site, text: bytes, user: str) -> Imported:
    """Keep the DLCO of each row of a table whose case is a result of this node.

    Parameters
    ----------
    text : bytes
        CSV as of `dicom-node cohort`: columns case (job number, Study Instance UID, Patient ID or accession number),
        dlco (% predicted) and group, if any.

    Raises
    ------
    Rejected
        Where the table is wrong; nothing of it is kept then.
    """
    if len(text) > LARGEST:
        raise Rejected("a table of DLCO has at most 1 MB")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(text)
        rows = read_table(path)
    folders, kept, left_out = Folders.of(site.results), [], []
    for row in rows:
        found = _study(site, folders, row)
        if found is None or row.dlco is None:
            left_out.append(f"line {row.line}: no {'result' if found is None else 'DLCO'}")
        else:
            kept.append((found, row))
    with site.database.writing() as connection:
        for study_uid, row in kept:
            values = {"percent": row.dlco, "cohort": row.group[:64], "user": user, "at": time.time()}
            insert = site.database.insert(dlco).values(study_uid=study_uid, **values)
            connection.execute(insert.on_conflict_do_update(index_elements=["study_uid"], set_=values))
    return Imported(len(kept), tuple(left_out))


def _study(site: Site, folders: Folders, row: Row) -> str | None:
    folder = folders.find(row.case)
    if folder is None or not folder.name.isdecimal():
        return None
    with site.database.reading() as connection:
        return connection.scalar(sa.select(job.c.study_uid).where(job.c.id == int(folder.name)))


def report(site: Site, ask: Ask) -> bytes:
    """Return the report of `dicom-node cohort` over the results and DLCO of this node, as PDF.

    Raises
    ------
    Conflict
        Where there are too few cases.
    """
    points = cohort_page(site, ask).points
    if len(points) < 4:
        raise Conflict("a report needs four studies with a result and a DLCO")
    table = StringIO("case,dlco,group\n")
    table.seek(0, 2)
    for point in points:
        group = "".join(c for c in point.cohort if c.isalnum() or c in " _-")
        table.write(f"{point.job_id},{point.dlco},{group}\n")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "dlco.csv"
        path.write_text(table.getvalue(), encoding="utf-8")
        files = write_report(read_cohort(site.results, path), Path(folder) / "report")
        found = next((file for file in files if file.suffix == ".pdf"), None)
        if found is None:
            raise NotThere("there is no report")
        return found.read_bytes()
