"""The command ``dicom-node``: arguments in, exit code and one sentence out. Only this configures logs.

A command of its own module is added with ``app.command("name")(module.function)`` below.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from analysis.errors import AnalysisError

from ..errors import NodeError, Rejected, Unavailable
from .progress import bars

if TYPE_CHECKING:
    from analysis.pipeline.pipeline import Analysis

    from ..research.validate import Report
    from ..settings.config import Config

#: Exit codes of every command.
OK, REFUSED, USAGE, UNAVAILABLE = 0, 1, 2, 3

EPILOG = (
    "Exit codes: 0 well; 1 refused: the images or a request cannot be used; 2 wrong usage or configuration; "
    "3 unavailable: port, disk, database or a peer, try again."
)

app = typer.Typer(
    name="dicom-node",
    help="Lung ventilation/perfusion maps from inspiratory and expiratory CT, as a DICOM node. Research use.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

validate_app = typer.Typer(
    help="Measure how good the results are, where the truth is known; writes a report with pictures.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(validate_app, name="validate")

ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="TOML file, see deploy/node.toml. Without one: defaults on loopback."
    ),
]


def configure_logging() -> None:
    """Log to stderr: UIDs and job numbers, never patient data (children of the node call this too)."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # these quote values of attributes, or every association, at lower levels
    for name in ("pydicom", "pynetdicom", "highdicom", "apscheduler"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")


@app.command(epilog=EPILOG)
def serve(config: ConfigPath = None) -> None:
    """Run the node: receive images, analyse pairs, deliver results, until SIGTERM or Ctrl-C.

    Killed at any moment and started again, it goes on where it was.
    """
    from ..node.node import Node

    settings = _config(config)
    configure_logging()
    node = Node(settings, prepare=configure_logging)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        node.start()
        ended.wait()
    finally:
        node.stop()


@app.command(epilog=EPILOG)
def status(
    config: ConfigPath = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Show what is waiting, running, sent and failed, and why. The node need not run."""
    from ..node.status import status as read_status
    from ..store.database import Database

    settings = _config(config)
    if not settings.database and not (settings.storage / "node.db").exists():
        raise Unavailable(f"no node has run with the storage {settings.storage} yet")
    database = Database(settings.database_url)
    found = read_status(database)
    database.close()
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _show(found)


@app.command(epilog=EPILOG)
def conformance() -> None:
    """Print the DICOM conformance statement of this version, in Markdown."""
    from ..node.conformance import statement

    print(statement(), end="")


@app.command("check-config", epilog=EPILOG)
def check_config(config: ConfigPath = None) -> None:
    """Check the configuration, storage, database and port, and whether the destinations answer.

    A destination that does not answer is reported, but is no fault of the configuration: results wait for it.
    """
    from ..node.check import check

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    console = Console()
    fatal = ""
    for item in check(_config(config)):
        mark = "[green]ok[/]" if not item.problem else "[red]no[/]" if item.fatal else "[yellow]--[/]"
        console.print(f"{mark} {item.name}" + (f": {item.problem}" if item.problem else ""), soft_wrap=True)
        fatal = fatal or (f"{item.name}: {item.problem}" if item.fatal and item.problem else "")
    if fatal:
        raise Unavailable(fatal)


@app.command(epilog=EPILOG)
def retry(
    job: Annotated[int, typer.Argument(help="Number of the job, as `dicom-node status` shows it.")],
    config: ConfigPath = None,
) -> None:
    """Run a refused, failed or cancelled job again, or send again what a destination did not take."""
    import time

    from ..delivery import queue as deliver
    from ..jobs import queue as jobs
    from ..store.database import Database

    database = Database(_config(config).database_url)
    if again := deliver.retry(database, job, time.time()):
        print(f"{again} objects of job {job} are queued again")
    else:
        jobs.retry(database, job, time.time())
        print(f"job {job} is queued again")


@app.command(epilog=EPILOG)
def cancel(
    job: Annotated[int, typer.Argument(help="Number of the job, as `dicom-node status` shows it.")],
    config: ConfigPath = None,
) -> None:
    """Give up a job that has not ended; a node that works on it ends its process."""
    import time

    from ..jobs import queue as jobs
    from ..store.database import Database

    jobs.cancel(Database(_config(config).database_url), job, time.time())
    print(f"job {job} is cancelled")


@app.command(epilog=EPILOG)
def force(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    config: ConfigPath = None,
) -> None:
    """Decide on a study now, without waiting until nothing more comes."""
    import time

    from ..store.database import Database
    from ..studies import queue as studies

    studies.look_now(Database(_config(config).database_url), study, time.time())
    print(f"study {study} is due now")


@app.command(epilog=EPILOG)
def assign(
    series: Annotated[str, typer.Argument(help="Series Instance UID.")],
    phase: Annotated[
        Literal["inspiration", "expiration", "none"],
        typer.Argument(help="What it is; none: no part of a pair."),
    ],
    config: ConfigPath = None,
) -> None:
    """Say which phase a series is, whatever its descriptions say; the lung volumes must still agree."""
    import time

    from ..store.database import Database
    from ..studies import queue as studies

    study = studies.assign(Database(_config(config).database_url), series, phase, time.time())
    print(f"series {series}: {phase}; study {study} is due now")


@app.command("run", epilog=EPILOG)
def run_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="INSP EXP OUT",
            help="Inspiration, expiration (folders, zip archives or files) and the folder for the results. "
            "With one source only, PILE OUT, the two phases are found in it.",
        ),
    ],
    config: ConfigPath = None,
    lobes: Annotated[
        Path | None,
        typer.Option(
            help="Mask of the five lobes on either CT: DICOM SEG, NIfTI or any image SimpleITK reads."
        ),
    ] = None,
    lobes_command: Annotated[
        str,
        typer.Option(
            help="Program of yours that draws the lobes, e.g. 'lungmask {ct} {lobes} --modelname LTRCLobes'; "
            "both are NIfTI files."
        ),
    ] = "",
) -> None:
    """Analyse a pair that lies on disk; no PACS, no network.

    Writes seg.dcm, sr.dcm, pdf.dcm, key_objects.dcm, captures, maps, overview.png, measures.json and analysis.npz, from
    which `export` and `compare` work.
    """
    from ..dicom.lobe_masks import LobeSource, draw_lobes, read_lobes
    from ..research.run import run

    if not 2 <= len(sources) <= 3:
        raise typer.BadParameter("name INSP EXP OUT, or one pile and OUT", param_hint="INSP EXP OUT")
    if lobes and lobes_command:
        raise typer.BadParameter("a mask or a program, not both", param_hint="--lobes")
    settings = _config(config)
    warnings.simplefilter("ignore")
    source: LobeSource | None = None
    if lobes:
        mask = read_lobes(lobes)
        source = lambda ct: mask  # noqa: E731
    elif lobes_command:
        source = partial(draw_lobes, shlex.split(lobes_command))
    with bars() as progress:
        outcome = run(tuple(sources[:-1]), sources[-1], settings.analysis, settings.pairing, progress, source)
    console = Console()
    console.print(_measures_table(outcome.analysis))
    for finding in outcome.analysis.findings:
        if finding.verdict != "pass":
            console.print(f"{finding.verdict}: {finding.sentence}", soft_wrap=True)
    for path in outcome.files:
        print(path)


Result = Annotated[
    str,
    typer.Argument(
        metavar="RESULT", help="Number of a job that is done, or a folder that `dicom-node run` wrote."
    ),
]


@app.command("export", epilog=EPILOG)
def export_(
    result: Result,
    out: Annotated[Path, typer.Argument(help="Folder for the images and tables.")],
    config: ConfigPath = None,
) -> None:
    """A result for researchers: NIfTI images, measures.csv and measures.json with units; nothing of the patient."""
    from ..research.export import export
    from ..results.record import find, read_record

    settings = _config(config)
    for path in export(read_record(find(result, settings.storage, settings.database_url)), out):
        print(path)


@app.command("compare", epilog=EPILOG)
def compare_(
    earlier: Result,
    later: Result,
    out: Annotated[Path, typer.Argument(help="Folder for tables, maps and the picture.")],
    config: ConfigPath = None,
) -> None:
    """What changed between two dates of one patient: measures, V and Q in place, lung that changed its class."""
    from ..research.compare import compare_results
    from ..results.record import find, read_record

    settings = _config(config)
    records = [read_record(find(r, settings.storage, settings.database_url)) for r in (earlier, later)]
    with bars() as progress:
        change, files = compare_results(records[0], records[1], out, progress)
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


@app.command("deidentify", epilog=EPILOG)
def deidentify_(
    job: Annotated[int, typer.Argument(help="Number of a job that is done.")],
    out: Annotated[Path, typer.Argument(help="New folder: images and results.")],
    config: ConfigPath = None,
    key: Annotated[
        Path | None,
        typer.Option(help="File with the secret that pseudonyms come from. Without one: the node's own."),
    ] = None,
) -> None:
    """Images and results of a job without identity, by PS3.15's Basic Confidentiality Profile; DICOM.

    UIDs, Patient ID and dates are replaced alike for all exports with one key.
    """
    from ..dicom.deidentification import Pseudonyms
    from ..research.deidentify import deidentify, node_key

    settings = _config(config)
    warnings.simplefilter("ignore")
    try:
        secret = key.read_bytes() if key else node_key(settings.storage)
    except OSError as error:
        raise Rejected(f"the key {key} cannot be read: {error.strerror}") from error
    with bars() as progress:
        folders = deidentify(settings.database_url, settings.storage, job, out, Pseudonyms(secret), progress)
    for folder in folders:
        print(folder)


@app.command("cohort", epilog=EPILOG)
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
        typer.Option(help="Your table of reference values: sex, age, log_mu, height_power, lambda, sigma."),
    ] = None,
) -> None:
    """Fractions against DLCO over a cohort: correlations, groups, figures, report.html, report.pdf and CSV."""
    from ..research.cohort import read_cohort
    from ..research.cohort_report import correlations, summary, write_report

    found = read_cohort(results, table, gli)
    files = write_report(found, out)
    shown = Table("against DLCO", "", box=box.SIMPLE, title=f"{len(found.cases)} cases", title_justify="left")
    for row in summary(correlations(found)):
        shown.add_row(*row)
    Console().print(shown)
    for line in found.left_out:
        print(f"left out: {line}")
    for path in files:
        print(path)


@app.command("demo", epilog=EPILOG)
def demo_(
    out: Annotated[Path, typer.Option(help="New folder for everything the demo makes.")] = Path("demo"),
) -> None:
    """Make a thorax phantom, send it to a node on loopback, and show what arrives at a stand-in PACS."""
    from analysis.figures.colours import CLASS_NAME

    from .demo import demo

    for name in ("pydicom", "pynetdicom", "highdicom", "apscheduler", "dicom_node"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with bars() as progress:
        made = demo(out, progress)
    table = Table("class", "truth %", "result %", title="Fractions of the lung", title_justify="left")
    for c, truth in made.truth.items():
        table.add_row(CLASS_NAME[c], f"{truth:.1f}", f"{made.measured[c]:.1f}")
    Console().print(table)
    print("Research use only; perfusion is a surrogate derived from CT density.")
    for path in made.files:
        print(path)


Out = Annotated[Path, typer.Argument(help="Folder for report.md, validation.json and the pictures.")]
ImagePath = Annotated[
    Path, typer.Argument(help="DICOM (folder, zip archive), or any image SimpleITK reads, in HU.")
]
PointsPath = Annotated[
    Path, typer.Argument(help="Landmarks: DIR-Lab's text (x y z in voxels from 1) or elastix' point file.")
]


@validate_app.command("phantom", epilog=EPILOG)
def validate_phantom_(out: Out) -> None:
    """The thorax phantom, whose classes and Jacobian are known exactly."""
    from ..research.validate import validate_phantom

    _validated(validate_phantom, out)


@validate_app.command("twin", epilog=EPILOG)
def validate_twin_(
    ct: ImagePath,
    motion: Annotated[Path, typer.Argument(help="Breathing motion of a patient (.npz).")],
    out: Out,
    phase: Annotated[str, typer.Option(help="What the CT plays: inspiration or expiration.")] = "inspiration",
) -> None:
    """A real CT as one phase; the other made from it by a real breathing motion, with planted defects."""
    from ..research.validate import validate_twin

    if phase not in ("inspiration", "expiration"):
        raise typer.BadParameter("inspiration or expiration", param_hint="--phase")
    _validated(lambda progress: validate_twin(ct, motion, phase, progress), out)  # type: ignore[arg-type]


@validate_app.command("landmarks", epilog=EPILOG)
def validate_landmarks_(
    insp: ImagePath, exp: ImagePath, insp_points: PointsPath, exp_points: PointsPath, out: Out
) -> None:
    """Landmark pairs on a real pair: the target registration error."""
    from ..research.validate import validate_landmarks

    _validated(lambda progress: validate_landmarks(insp, exp, insp_points, exp_points, progress), out)


def _validated(work: Callable[[Callable[[str, float], None]], Report], out: Path) -> None:
    from ..research.validate import write_report

    warnings.simplefilter("ignore")
    with bars() as progress:
        files = write_report(work(progress), out)
    print(files[0].read_text())
    for path in files:
        print(path)


def _measures_table(analysis: Analysis) -> Table:
    from analysis.anatomy.regions import REGIONS
    from analysis.measures.table import MEASURES

    names = ("normal", "dead_space", "shunt", "matched_defect", "total_abnormal", "mean_v", "mean_q")
    # narrow, so that 80 columns hold it
    columns = (f"{n.replace('_', ' ')} {MEASURES[n].unit}".removesuffix(" 1") for n in names)
    table = Table("region", *columns, box=box.SIMPLE, padding=0)
    table.columns[0].no_wrap = True
    for region, row in analysis.measures.items():
        table.add_row(
            REGIONS[region], *(f"{row[n]:.1f}" if MEASURES[n].unit == "%" else f"{row[n]:.3f}" for n in names)
        )
    return table


def _config(path: Path | None) -> Config:
    from ..settings.config import Config, read_config

    try:
        return read_config(path) if path else Config()
    except Rejected as error:
        raise typer.BadParameter(str(error), param_hint="--config") from error


def _show(found: dict[str, Any]) -> None:
    console = Console()
    counts = ", ".join(f"{n} {name}" for name, n in found["instances"].items())
    console.print(f"Instances: {counts}")
    for name, columns in TABLES.items():
        if rows := found[name]:
            table = Table(*(c for c, _ in columns), title=name.capitalize(), title_justify="left")
            for row in rows:
                table.add_row(*(cell(row) for _, cell in columns))
            console.print(table)


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _job_state(row: dict[str, Any]) -> str:
    return (
        f"{row['state']} {row['stage']} {row['fraction']:.0%}" if row["state"] == "RUNNING" else row["state"]
    )


def _missing(row: dict[str, Any]) -> str:
    if not row["missing"] or row["state"] == "REMOVED":
        return ""
    return f"{row['missing']} of {row['listed']} images its scanner lists are not here"


Column = tuple[str, Callable[[dict[str, Any]], str]]
TABLES: dict[str, tuple[Column, ...]] = {
    "studies": (
        ("study", lambda r: r["study_uid"]),
        ("images", lambda r: str(r["instances"])),
        ("state", lambda r: r["state"]),
        ("since", lambda r: _time(r["since"])),
        ("until", lambda r: _time(r["due_at"])),
        ("why", lambda r: "; ".join(text for text in (r["reason"], _missing(r), r["search"]) if text)),
    ),
    "jobs": (
        ("job", lambda r: str(r["id"])),
        ("study", lambda r: r["study_uid"]),
        ("revision", lambda r: str(r["revision"])),
        ("state", _job_state),
        ("since", lambda r: _time(r["since"])),
        ("why", lambda r: r["reason"]),
    ),
    "deliveries": (
        ("job", lambda r: str(r["job_id"])),
        ("destination", lambda r: r["destination"]),
        ("state", lambda r: r["state"]),
        ("objects", lambda r: str(r["objects"])),
        ("attempts", lambda r: str(r["attempts"])),
        ("next", lambda r: _time(r["due_at"])),
        ("why", lambda r: r["reason"]),
    ),
    "commitments": (
        ("asked by", lambda r: r["calling_ae"]),
        ("transaction", lambda r: r["transaction_uid"]),
        ("state", lambda r: r["state"]),
        ("objects", lambda r: str(r["objects"])),
        ("not kept", lambda r: "" if r["failed"] is None else str(r["failed"])),
        ("attempts", lambda r: str(r["attempts"])),
        ("next", lambda r: _time(r["due_at"]) if r["state"] == "QUEUED" else ""),
        ("why", lambda r: r["reason"]),
    ),
    "unreadable": (
        ("instance", lambda r: r["sop_instance_uid"]),
        ("from", lambda r: r["calling_ae"]),
        ("received", lambda r: _time(r["received_at"])),
        ("why", lambda r: r["problem"]),
    ),
}

#: What a command's error means for the shell.
CODES: tuple[tuple[type[Exception], int], ...] = (
    (Unavailable, UNAVAILABLE),
    (NodeError, REFUSED),
    (AnalysisError, REFUSED),
)


def main() -> None:
    """Run the command line; an error a person can act on is one sentence, not a trace."""
    # Threads that wait must sleep: on a busy machine spinning made the registration ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except (NodeError, AnalysisError) as error:
        print(f"dicom-node: {error}", file=sys.stderr)
        sys.exit(next(code for kind, code in CODES if isinstance(error, kind)))
