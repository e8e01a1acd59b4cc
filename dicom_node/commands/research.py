"""The commands for files on disk and for studies: export, compare, deidentify, cohort, validate."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from ..errors import Rejected
from .options import ConfigPath, read_settings
from .progress import bars

if TYPE_CHECKING:
    from ..research.validate import Report
    from ..settings.config import Config


Result = Annotated[
    str,
    typer.Argument(
        metavar="RESULT", help="Number of a job that is done, or a folder that `dicom-node run` wrote."
    ),
]


def export_(
    result: Result,
    out: Annotated[Path, typer.Argument(help="Folder for the images and tables.")],
    config: ConfigPath = None,
) -> None:
    """Export a result for researchers: NIfTI images, measures.csv and measures.json; no data of the patient."""
    from ..jobs.results import find
    from ..research.export import export
    from ..results.record import read_record

    settings = read_settings(config)
    files = export(read_record(find(result, settings.layout, settings.database_url)), out)
    if result.isdecimal():
        _told(settings, int(result))
    for path in files:
        print(path)


def compare_(
    earlier: Result,
    later: Result,
    out: Annotated[Path, typer.Argument(help="Folder for tables, maps and the picture.")],
    config: ConfigPath = None,
) -> None:
    """Compare two dates of one patient: measures, V and Q at each place, lung that changed its class."""
    from ..jobs.results import find
    from ..research.compare import compare_results, read_kept

    settings = read_settings(config)
    kept = [read_kept(find(r, settings.layout, settings.database_url)) for r in (earlier, later)]
    with bars() as progress:
        change, files = compare_results(kept[0], kept[1], out, progress)
    table = Table("both lungs", "earlier", "later", "change", box=box.SIMPLE)
    for name in ("dead_space", "shunt", "matched_defect", "total_abnormal", "mean_v", "mean_q", "volume_exp"):
        then, now = change.measures["lungs"][name]
        table.add_row(name.replace("_", " "), f"{then:.3f}", f"{now:.3f}", f"{now - then:+.3f}")
    Console().print(table)
    for finding in change.findings:
        if finding.verdict != "pass":
            print(f"{finding.verdict}: {finding.sentence}")
    for path in files:
        print(path)


def deidentify_(
    job: Annotated[int, typer.Argument(help="Number of a job that is done.")],
    out: Annotated[Path, typer.Argument(help="New folder: images and results.")],
    config: ConfigPath = None,
    key: Annotated[
        Path | None,
        typer.Option(help="File with the secret that pseudonyms come from. Without one: the node's own."),
    ] = None,
    retain: Annotated[
        str,
        typer.Option(
            help="What is kept besides, with commas between: characteristics (sex, age, size, weight, ...), device "
            "(station name, serial number, ...)."
        ),
    ] = "",
) -> None:
    """Write the DICOM images and results of a job without identity (PS3.15 Basic Confidentiality Profile).

    Exports with the same key replace UIDs, Patient ID and dates in the same way.
    """
    from ..dicom.deidentification import Profile, Pseudonyms
    from ..jobs.results import find, images
    from ..research.deidentify import deidentify
    from ..results.record import read_record
    from ..store.keys import node_key

    settings = read_settings(config)
    warnings.simplefilter("ignore")
    try:
        secret = key.read_bytes() if key else node_key(settings.layout)
    except OSError as error:
        raise Rejected(f"the key {key} cannot be read: {error.strerror}") from error
    options = tuple(part.strip() for part in retain.split(",") if part.strip())
    try:
        profile = Profile(Pseudonyms(secret), options)
    except Rejected as error:
        raise typer.BadParameter(str(error), param_hint="--retain") from error
    record = read_record(find(str(job), settings.layout, settings.database_url))
    pair, paths = images(job, settings.layout, settings.database_url)
    with bars() as progress:
        folders = deidentify(record, pair, paths, out, profile, progress)
    _told(settings, job)
    for folder in folders:
        print(folder)


def cohort_(
    results: Annotated[Path, typer.Argument(help="One folder a case, of `dicom-node run` or a node.")],
    table: Annotated[
        Path,
        typer.Argument(
            metavar="DLCO.csv",
            help="Columns case (folder, patient, accession number or study), dlco (% predicted), group (if any); "
            "with --gli: case, tlco, sex, age, height.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the report.")] = Path("report"),
    gli: Annotated[
        Path | None,
        typer.Option(
            help="Your table of reference values: sex, age, log_mu, height_power, lambda, sigma; or the "
            "word pyspiro, for the package of this name (GLI 2017; tlco in mmol/min/kPa)."
        ),
    ] = None,
    figure: Annotated[
        str,
        typer.Option(
            metavar="CASE", help="The patient of Figure 1. Without one: the one with most abnormal lung."
        ),
    ] = "",
) -> None:
    """Correlate fractions with DLCO over a cohort: correlations, groups, figures, report.html, report.pdf, CSV.

    Also figure1.pdf, .svg and .png: perfusion, ventilation and classes of one patient, and the cohort with him in it.
    """
    from ..research.cohort import read_cohort
    from ..research.cohort_figure import write_figure
    from ..research.cohort_report import correlations, summary, write_report

    found = read_cohort(results, table, gli)
    files = write_report(found, out)
    try:
        files += write_figure(found, out, figure)
    except Rejected as error:
        if figure:
            raise
        print(f"no Figure 1: {error}")
    shown = Table("against DLCO", "", box=box.SIMPLE, title=f"{len(found.cases)} cases", title_justify="left")
    for row in summary(correlations(found)):
        shown.add_row(*row)
    Console().print(shown)
    for line in found.left_out:
        print(f"left out: {line}")
    for path in files:
        print(path)


Out = Annotated[Path, typer.Argument(help="Folder for report.md, validation.json and the pictures.")]


ImagePath = Annotated[
    Path, typer.Argument(help="DICOM (folder, zip archive), or any image SimpleITK reads, in HU.")
]


PointsPath = Annotated[
    Path, typer.Argument(help="Landmarks: DIR-Lab's text (x y z in voxels from 1) or elastix' point file.")
]


def validate_phantom(out: Out) -> None:
    """Validate on the thorax phantom, whose classes and Jacobian are known exactly."""
    from ..research.validate import validate_phantom as validate

    _validated(validate, out)


def validate_twin(
    ct: ImagePath,
    out: Out,
    motion: Annotated[
        Path | None,
        typer.Option(help="Breathing motion of a patient (.npz). Without one: a made one, smooth and even."),
    ] = None,
    phase: Annotated[str, typer.Option(help="What the CT plays: inspiration or expiration.")] = "inspiration",
    vessels: Annotated[
        str,
        typer.Option(help="What keeps its density: dense tissue (dense) or blood in every voxel (share)."),
    ] = "dense",
) -> None:
    """Validate on a real CT and its other phase, made by a breathing motion with planted defects."""
    from ..research.validate import validate_twin as validate

    if phase not in ("inspiration", "expiration"):
        raise typer.BadParameter("inspiration or expiration", param_hint="--phase")
    if vessels not in ("dense", "share"):
        raise typer.BadParameter("dense or share", param_hint="--vessels")
    _validated(lambda progress: validate(ct, motion, phase, progress, vessels), out)  # type: ignore[arg-type]


def validate_landmarks(
    insp: ImagePath, exp: ImagePath, insp_points: PointsPath, exp_points: PointsPath, out: Out
) -> None:
    """Measure the target registration error on a real pair with pairs of landmarks."""
    from ..research.validate import validate_landmarks as validate

    _validated(lambda progress: validate(insp, exp, insp_points, exp_points, progress), out)


def _told(settings: Config, job: int) -> None:
    """Record in the audit trail that a person wrote a study of the node into a folder."""
    from ..audit.trail import Trail
    from ..jobs.queue import read
    from ..store.database import Database

    database = Database(settings.database_url)
    trail = Trail(database, settings.audit, settings.receive.ae_title)
    trail.exported(read(database, job).study_uid)
    database.close()


def _validated(work: Callable[[Callable[[str, float], None]], Report], out: Path) -> None:
    from ..research.validate import write_report

    warnings.simplefilter("ignore")
    with bars() as progress:
        files = write_report(work(progress), out)
    print(files[0].read_text())
    for path in files:
        print(path)
