"""A finished job -> its numbers, findings, trend and reviews; its pictures and files for download."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

import numpy as np
import sqlalchemy as sa
from pydicom import dcmread

from analysis.anatomy.regions import REGIONS
from analysis.figures.colours import CLASS_NAME, CLASS_RGB
from analysis.measures.digits import sd_of
from analysis.measures.table import MEASURES
from analysis.pipeline.saved import REST
from analysis.volume import Grid

from ..dicom.image_files import write_nifti
from ..errors import Unavailable
from ..research.export import export
from ..results.measures_file import NAME as MEASURES_FILE
from ..results.measures_file import measures_bytes
from ..results.record import NAME as RECORD
from ..results.record import read_record
from ..store.page_tables import dlco, review
from ..store.tables import job, outcome, result
from .previews import Names
from .problems import Conflict, Forbidden, NotThere
from .site import Ask, Site
from .worklist import names_in

#: Measures of the page's table; each region is a row.
SHOWN = ("normal", "dead_space", "shunt", "matched_defect", "total_abnormal", "mean_v", "mean_q")
#: Maps that the viewer shows -> (array of the record, colormap of the viewer, unit).
VIEWS: Mapping[str, tuple[str, str, str]] = {
    "ct": ("maps ct_exp", "gray", "HU"),
    "V": ("maps V", "viridis", "ml/ml"),
    "Q": ("maps Q", "inferno", "g/ml"),
    "VQ": ("maps V/Q", "viridis", ""),
    "classes": ("classes", "classes", ""),
}
#: Downloads -> the name that a browser saves them under, after the number of the job.
FILES: Mapping[str, str] = {
    "pdf": "report.pdf",
    "nifti": "nifti.zip",
    "csv": "measures.csv",
    "dicom": "dicom.zip",
    "json": "measures.json",
}
#: Downloads that name the patient.
NAMING = frozenset({"pdf", "dicom"})


@dataclass(frozen=True)
class Value:
    """A measure of a region; None for no value. `sd` is its standard uncertainty."""

    measure: str
    value: float | None
    unit: str
    sd: float | None = None


@dataclass(frozen=True)
class Region:
    """The measures of one region."""

    name: str
    title: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Check:
    """A finding of quality."""

    check: str
    verdict: str
    sentence: str
    value: float | None
    unit: str
    limit: str


@dataclass(frozen=True)
class Review:
    """What a person said of a result."""

    user: str
    at: float
    note: str


@dataclass(frozen=True)
class Visit:
    """One result of the patient's: the day, and percent of lung in each class."""

    job_id: int
    day: str
    fractions: Mapping[str, float | None]


@dataclass(frozen=True)
class Share:
    """A class of lung with its colour and its percent of both lungs."""

    number: int
    title: str
    colour: str
    percent: float | None


@dataclass(frozen=True)
class ResultPage:
    """A result."""

    job_id: int
    study_uid: str
    revision: int
    made: float
    software: str
    limits: str
    pairing: str
    headings: tuple[str, ...]
    shares: tuple[Share, ...]
    regions: tuple[Region, ...]
    checks: tuple[Check, ...]
    visits: tuple[Visit, ...]
    reviews: tuple[Review, ...]
    dlco: float | None
    names: Names | None
    viewer: str
    files: tuple[str, ...]


def result_page(site: Site, ask: Ask) -> ResultPage:
    """Return a result.

    Raises
    ------
    NotThere
        Where there is no such job.
    Conflict
        Where the job has no result, or its files were removed.
    """
    row = job_of(site, ask)
    folder = site.config.layout.results_of(row.id)
    try:
        found = json.loads(_measures(folder))
    except OSError as error:
        raise Conflict(f"the files of job {row.id} cannot be read: {error.strerror}") from error
    with site.database.reading() as connection:
        said = connection.execute(sa.select(review).where(review.c.job_id == row.id).order_by(review.c.at))
        reviews = tuple(Review(r.user, r.at, r.note) for r in said)
        percent = connection.scalar(sa.select(dlco.c.percent).where(dlco.c.study_uid == row.study_uid))
        visits = tuple(_visits(connection, row.id))
    site.notebook.tell(lambda: site.trail.accessed(row.study_uid, ask.user.name))
    regions = tuple(_regions(found["measures"]))
    allowed = tuple(name for name in FILES if name not in NAMING or may_see_names(site, ask))
    return ResultPage(
        *(
            row.id,
            row.study_uid,
            row.revision,
            row.since,
            found["software"],
            found["limits"],
            found["pairing"],
        ),
        tuple(MEASURES[name].meaning.partition(",")[0] for name in SHOWN),
        tuple(_shares(regions[0])),
        regions,
        tuple(Check(**{f: one.get(f) for f in Check.__annotations__}) for one in found["quality"]),
        *(visits, reviews, percent, names_in(site, row.study_uid)),
        site.settings.viewer_url.replace("{study}", row.study_uid),
        allowed,
    )


def job_of(site: Site, ask: Ask) -> Any:
    """Return the row of a finished job.

    Raises
    ------
    NotThere
        Where there is no such job.
    Conflict
        Where it has no result.
    """
    text = ask.path["job"]
    number = int(text) if text.isdecimal() and len(text) < 10 else -1
    query = sa.select(job.c.id, job.c.study_uid, job.c.revision, job.c.since, job.c.state)
    with site.database.reading() as connection:
        row = connection.execute(query.where(job.c.id == number)).one_or_none()
    if row is None:
        raise NotThere(f"there is no job {text[:12]}")
    if row.state != "DONE":
        raise Conflict(f"job {row.id} is {row.state}: it has no result")
    return row


def may_see_names(site: Site, ask: Ask) -> bool:
    """Return whether a user may have files that name the patient."""
    return site.settings.names or ask.user.may("operator")


def _regions(measures: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> Iterator[Region]:
    for name, values in measures.items():
        shown = []
        for measure in SHOWN:
            own, sd = values.get(measure, {}), sd_of(values, measure) or {}
            unit = str(own.get("unit") or "")
            shown.append(Value(measure, own.get("value"), unit, sd.get("value")))
        yield Region(name, REGIONS.get(name, name), tuple(shown))


def _shares(lungs: Region) -> Iterator[Share]:
    percent = {value.measure: value.value for value in lungs.values}
    for c, rgb in CLASS_RGB.items():
        yield Share(int(c), CLASS_NAME[c], "#{:02x}{:02x}{:02x}".format(*rgb), percent.get(c.name.lower()))


def _visits(connection: sa.Connection, job_id: int) -> Iterator[Visit]:
    """Yield the patient's results, the last one of each study, the oldest first."""
    patient = connection.scalar(sa.select(outcome.c.patient).where(outcome.c.job_id == job_id))
    if not patient:
        return
    query = sa.select(outcome, job.c.study_uid).join(job, job.c.id == outcome.c.job_id)
    rows = connection.execute(query.where(outcome.c.patient == patient).order_by(job.c.revision))
    last = {row.study_uid: row for row in rows}
    for row in sorted(last.values(), key=lambda row: str(row.acquired)):
        values = json.loads(row.measures)
        names = ("total_abnormal", "dead_space", "shunt", "matched_defect")
        day = f"{row.acquired[:4]}-{row.acquired[4:6]}-{row.acquired[6:8]}"
        yield Visit(row.job_id, day, {name: values.get(name) for name in names})


def picture(site: Site, ask: Ask) -> bytes:
    """Return the summary picture of a result as PNG.

    Raises
    ------
    NotThere
        Where there is none.
    """
    path = site.config.layout.results_of(job_of(site, ask).id) / "overview.png"
    try:
        return path.read_bytes()
    except OSError:
        raise NotThere("there is no summary picture") from None


def view(site: Site, ask: Ask) -> bytes:
    """Return one map of a result as NIfTI for the viewer.

    Raises
    ------
    NotThere
        Where there is no such map.
    """
    if ask.path["map"] not in VIEWS:
        raise NotThere(f"there is no map {ask.path['map'][:16]}")
    path = site.config.layout.results_of(job_of(site, ask).id) / RECORD
    name = VIEWS[ask.path["map"]][0]
    try:
        with np.load(path, allow_pickle=False) as stored:  # only the array that is asked for is read
            rest = json.loads(str(stored[REST]))["analysis"]
            array = np.asarray(stored[name])
    except Exception as error:  # the boundary: numpy's reader of damaged bytes alone raises a dozen kinds
        raise NotThere(f"the record has no map that can be read ({type(error).__name__})") from error
    where = rest["expiratory" if name == "classes" else "grid"]
    grid = Grid(tuple(where["shape"]), np.array(where["affine"]))
    if array.dtype.kind == "f":
        array = np.nan_to_num(array.astype(np.float32), nan=0.0)
    with TemporaryDirectory() as folder:
        write_nifti(Path(folder) / "map.nii.gz", array, grid)
        return (Path(folder) / "map.nii.gz").read_bytes()


def download(site: Site, ask: Ask) -> tuple[str, IO[bytes]]:
    """Return the name and the open file of a download, and report it.

    Raises
    ------
    NotThere
        Where there is no such download.
    Forbidden
        Where it names the patient, and the user may not see that.
    """
    kind = ask.path["file"]
    if kind not in FILES:
        raise NotThere(f"there is no download {kind[:16]}")
    if kind in NAMING and not may_see_names(site, ask):
        raise Forbidden("this file names the patient: it needs the role operator")
    row = job_of(site, ask)
    out: IO[bytes] = TemporaryFile()  # noqa: SIM115  the answer closes it
    try:
        _write(site, row.id, kind, out)
    except OSError as error:
        raise Unavailable(f"the files of job {row.id} cannot be read: {error.strerror}") from error
    out.seek(0)
    site.trail.exported(row.study_uid, ask.user.name)
    return f"vq-{row.id}-{FILES[kind]}", out


def _write(site: Site, number: int, kind: str, out: IO[bytes]) -> None:
    folder = site.config.layout.results_of(number)
    if kind == "pdf":
        paths = [path for path in _objects(site, number) if path.name.endswith("pdf.dcm")]
        if not paths:
            raise NotThere(f"job {number} made no report as PDF")
        out.write(bytes(dcmread(paths[0]).EncapsulatedDocument).rstrip(b"\x00"))
    elif kind == "json":
        out.write(_measures(folder))
    elif kind == "dicom":
        _zip(out, _objects(site, number), folder)
    else:
        with TemporaryDirectory(dir=_workspace(site)) as made:
            files = export(read_record(folder / RECORD), Path(made))
            if kind == "csv":
                out.write((Path(made) / "measures.csv").read_bytes())
            else:
                _zip(out, files, Path(made))


def _measures(folder: Path) -> bytes:
    """Return ``measures.json`` of a result; the node keeps that file since version 0.2.0."""
    try:
        return (folder / MEASURES_FILE).read_bytes()
    except FileNotFoundError:
        return measures_bytes(read_record(folder / RECORD))


def _workspace(site: Site) -> Path:
    site.config.layout.workspaces.mkdir(mode=0o700, exist_ok=True)
    return site.config.layout.workspaces


def _objects(site: Site, number: int) -> list[Path]:
    query = sa.select(result.c.path).where(result.c.job_id == number).order_by(result.c.path)
    with site.database.reading() as connection:
        return [site.config.storage / path for path in connection.scalars(query)]


def _zip(out: IO[bytes], files: list[Path] | tuple[Path, ...], folder: Path) -> None:
    """Write files into an archive without compressing them: most are compressed, and a browser waits."""
    stamp = time.gmtime()[:6]
    with zipfile.ZipFile(out, "w") as archive:
        for path in files:
            name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
            archive.writestr(zipfile.ZipInfo(name, stamp), path.read_bytes())
