"""The commands that analyse pairs on disk: run for one, batch for many."""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import sys
import tomllib
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from ..errors import Rejected
from ..strict_json import encode
from .options import REFUSED, ConfigPath, read_settings
from .progress import counted, one_bar

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from analysis.parameters import Parameters
    from analysis.pipeline.pipeline import Analysis

    from ..research.batch import Ended
    from ..research.cases import BatchCase
    from ..research.run import Recipe

#: Seconds of one core that a pair takes: some for any pair, and some for each million voxels of both phases. The first
#: from whole runs on two cores (67 million voxels in 40 s, on a slower machine in about 50: docs/operating.md), the
#: second from the times of docs/validation.md (52 to 210 million voxels).
CORE_SECONDS, CORE_SECONDS_A_MVOXEL = 77.0, 0.31
COLUMNS = ("normal", "dead_space", "shunt", "matched_defect", "total_abnormal", "mean_v", "mean_q")

Objects = Annotated[
    str,
    typer.Option(
        help="DICOM objects to write, with commas between: seg, sr, labelmap, text_sr, captures, pdf, key_objects, "
        "maps; or none. Without the option: those that any PACS accepts."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Parameter of the analysis, e.g. low=0.5; may be given again."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table.")]
Json = Annotated[bool, typer.Option("--json", help="Write the outcome as JSON to stdout, for scripts.")]
ImageFile = typer.Option(help="Mask of the lungs: NIfTI, MetaImage, NRRD; a label for both or one for each.")


def run_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="INSP EXP OUT",
            help="Inspiration, expiration (folders, zip archives or files of DICOM; or two files of NIfTI, MetaImage "
            "or NRRD in HU) and the folder for the results. With one source only, PILE OUT, the two phases are found "
            "in it.",
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
    lungs_insp: Annotated[Path | None, ImageFile] = None,
    lungs_exp: Annotated[Path | None, ImageFile] = None,
    field: Annotated[
        Path | None,
        typer.Option(
            help="Displacement field from expiration to inspiration, mm, LPS vectors, as ITK, ANTs and elastix write "
            "it; instead of our registration."
        ),
    ] = None,
    objects: Objects = "",
    assignments: Set = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Analyse a pair of CT series on disk, without PACS or network.

    Writes seg.dcm, sr.dcm, pdf.dcm, key_objects.dcm, captures, overview.png, measures.json and analysis.npz, from which
    `export` and `compare` work; with --objects also others, such as maps. Files that are no DICOM get no DICOM objects.
    The folder appears whole, or not at all.
    """
    from ..pairing.analyse import share_done
    from ..research.given import Given
    from ..research.run import run

    if not 2 <= len(sources) <= 3:
        raise typer.BadParameter("name INSP EXP OUT, or one pile and OUT", param_hint="INSP EXP OUT")
    if lobes and lobes_command:
        raise typer.BadParameter("a mask or a program, not both", param_hint="--lobes")
    recipe = _recipe(config, objects, assignments)
    warnings.simplefilter("ignore")
    # SIGTERM, too, must remove the files that archives were unpacked to
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    given = Given(lungs_insp, lungs_exp, field, lobes, tuple(shlex.split(lobes_command)))
    still = quiet or as_json
    if not still:
        print(_expectation(sources[:-1]), file=sys.stderr)
    bar: AbstractContextManager[Any] = (
        nullcontext(lambda stage, share: None)
        if still
        else one_bar(lambda stage, share: 0.0 if stage == "headers" else share_done(stage, share))
    )
    out = sources[-1]
    with bar as progress:
        analysis = run(tuple(sources[:-1]), out, recipe, progress, given).analysis
    if as_json:
        kept = {"folder": str(out), "measures": analysis.measures, "quality": analysis.findings}
        print(encode(kept, indent=1))
        return
    if not quiet:
        console = Console()
        console.print(measures_table(analysis))
        for finding in analysis.findings:
            if finding.verdict != "pass":
                console.print(f"{finding.verdict}: {finding.sentence}", soft_wrap=True)
    print(out)


def batch_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CASES",
            help="Table (.csv: case, inspiratory, expiratory; other columns are carried through), or a folder: "
            "sub-*/ses-*, or one folder or archive a case.",
        ),
    ],
    results: Annotated[Path, typer.Argument(help="Folder for one folder of results a case, and batch.csv.")],
    config: ConfigPath = None,
    by_study: Annotated[
        bool,
        typer.Option(
            "--by-study", help="CASES is a pile of DICOM: a case is a study, wherever its images lie."
        ),
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes here.")] = 1,
    dask: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Dask scheduler to work on instead, e.g. tls://host:8786.")
    ] = "",
    tls_ca: Annotated[
        Path | None, typer.Option(help="PEM file: authorities that Dask's certificates are of.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file: our certificate for Dask.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file: its key.")] = None,
    part: Annotated[
        str,
        typer.Option(metavar="I/N", help="Only every Nth case from the Ith on, e.g. for an array of SLURM."),
    ] = "1/1",
    limit_memory: Annotated[
        int, typer.Option(metavar="MB", help="Most memory of a process; 0: no limit.")
    ] = 0,
    objects: Objects = "",
    assignments: Set = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Analyse many pairs: one folder of results a case, whole or not at all.

    Finished cases are skipped, so that a batch that was stopped or killed goes on where it was, and it says how many of
    them other parameters or another version made; cases that failed are tried again. batch.csv has the state of every
    case, and why one failed; `cohort` reads it.
    """
    from ..research.batch import batch, made_otherwise
    from ..research.cases import find_cases

    recipe, numbers = _recipe(config, objects, assignments), _part(part)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    cases = find_cases(source, by_study)
    mine = cases[numbers[0] - 1 :: numbers[1]]
    still = quiet or as_json
    if not still:
        print(f"{len(mine)} cases, results in {results}", file=sys.stderr)
    if others := made_otherwise(mine, results, recipe.parameters):
        print(
            f"{len(others)} finished cases were made with other parameters or by another version and stay as they are,"
            f" {others[0]} first: remove the folders of those that are to be made again",
            file=sys.stderr,
        )
    bar: AbstractContextManager[Any] = nullcontext(lambda note: None) if still else _bar(len(mine))
    failures: list[str] = []

    def told(case: BatchCase, ended: Ended, left: int) -> None:
        if ended.state == "failed":
            failures.append(f"{case.name}: {ended.reason}")
        count(f"{len(failures)} failed" if failures else "")

    with _executor(dask, (tls_ca, tls_cert, tls_key), workers, limit_memory) as executor, bar as count:
        found = batch(cases, results, recipe, executor, numbers, told)
    if as_json:
        print(encode(dataclasses.asdict(found) | {"table": str(found.table)}, indent=1))
    else:
        for line in failures[:10]:
            print(f"failed: {line}", file=sys.stderr)
        print(f"{found.done} done, {found.skipped} done before, {found.failed} failed: {found.table}")
    if found.failed:
        sys.exit(REFUSED)


def _bar(total: int) -> AbstractContextManager[Any]:
    return counted(total, "cases")


def _executor(
    dask: str, tls: tuple[Path | None, Path | None, Path | None], workers: int, memory_mb: int
) -> AbstractContextManager[Executor]:
    from .executors import DaskAddress, dask_workers, local_workers

    return dask_workers(DaskAddress(dask, *tls), memory_mb) if dask else local_workers(workers, memory_mb)


def _part(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise typer.BadParameter(f"{text} is no part: I/N, e.g. 3/10", param_hint="--part")
    return int(number), int(of)


def _recipe(config: Path | None, objects: str, assignments: list[str] | None) -> Recipe:
    from ..research.run import Recipe
    from ..results.kinds import DEFAULT_OBJECTS, OBJECT_KINDS

    settings = read_settings(config)
    kinds = tuple(part.strip() for part in objects.split(",")) if objects else DEFAULT_OBJECTS
    kinds = () if kinds == ("none",) else kinds
    if unknown := [kind for kind in kinds if kind not in OBJECT_KINDS]:
        raise typer.BadParameter(
            f"{', '.join(unknown)}: known are {', '.join(OBJECT_KINDS)}, none", param_hint="--objects"
        )
    return Recipe(_with(settings.analysis, assignments or []), settings.pairing, kinds, settings.pictures)


def _with(parameters: Parameters, assignments: list[str]) -> Parameters:
    """Return parameters with those replaced that the command line sets, checked as a configuration is."""
    from ..settings.toml import build

    table = dataclasses.asdict(parameters)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise typer.BadParameter(f"{assignment} is no NAME=VALUE", param_hint="--set")
        try:
            table[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            table[name.strip()] = text.strip()
    try:
        return build(type(parameters), table, "analysis")
    except Rejected as error:
        raise typer.BadParameter(str(error), param_hint="--set") from error


def _expectation(sources: list[Path]) -> str:
    """Return a sentence on how long the analysis may take, from the size of the files and the cores there are."""
    size = sum(
        path.stat().st_size
        for source in sources
        for path in (source.rglob("*") if source.is_dir() else [source])
        if path.is_file()
    )
    cores = len(os.sched_getaffinity(0))
    seconds = expected_seconds(size / 2e6, cores)
    words = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{max(round(seconds, -1), 10):.0f} seconds"
    return (
        f"{size / 1e6:.0f} MB of images: this may take about {words} on {cores} cores that do nothing else."
    )


def expected_seconds(mvoxels: float, cores: int) -> float:
    """Return how long a pair of so many million voxels may take (s); more than four cores hardly help.

    Examples
    --------
    >>> round(expected_seconds(105, 2)), round(expected_seconds(210, 2))
    (55, 71)
    """
    return (CORE_SECONDS + CORE_SECONDS_A_MVOXEL * mvoxels) / min(cores, 4)


def measures_table(analysis: Analysis) -> Table:
    """Return the table of the fractions of every region, which fits into 80 columns."""
    from analysis.anatomy.regions import REGIONS
    from analysis.measures.table import MEASURES

    columns = (f"{n.replace('_', ' ')} {MEASURES[n].unit}".removesuffix(" 1") for n in COLUMNS)
    table = Table("region", *columns, box=box.SIMPLE, padding=0)
    table.columns[0].no_wrap = True
    for region, row in analysis.measures.items():
        values = (f"{row[n]:.1f}" if MEASURES[n].unit == "%" else f"{row[n]:.3f}" for n in COLUMNS)
        table.add_row(REGIONS[region], *values)
    return table
