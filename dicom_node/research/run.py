"""`dicom-node run`: DICOM on disk -> results on disk, by the same steps as the node; no network, no database."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from analysis.parameters import Parameters
from analysis.pipeline.pipeline import Analysis

from ..dicom.headers import read_header
from ..dicom.pixels import load_volume
from ..errors import Rejected
from ..model import Assembled, Header, Pair, PairingRules, Phase
from ..pairing.analyse import Progress, analyse_pair
from ..pairing.lobes_program import LobeSource
from ..pairing.pairing import fingerprint, pair
from ..pairing.stacks import assemble
from ..results.context import Case, read_case
from ..results.files import record_of, write
from ..results.kinds import DEFAULT_OBJECTS, build_objects


@dataclass(frozen=True)
class Pile:
    """What was found on disk.

    Attributes
    ----------
    headers : tuple of Header
        One for every SOP instance, each once.
    paths : dict of SOP Instance UID to Path
    others : int
        Files that are not DICOM, or cannot be read.
    """

    headers: tuple[Header, ...]
    paths: dict[str, Path]
    others: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run made: the result, its pair and the files written."""

    analysis: Analysis
    pair: Pair
    files: tuple[Path, ...]


def run(
    sources: tuple[Path, ...],
    out: Path,
    parameters: Parameters,
    rules: PairingRules,
    progress: Progress,
    lobes: LobeSource | None = None,
) -> Outcome:
    """Analyse a pair found on disk and write its results.

    Parameters
    ----------
    sources : tuple of Path
        Inspiration and expiration, or one pile that holds both: folders, zip archives or files.
    out : Path
        Folder for the results; made where it does not exist.
    parameters : Parameters
    rules : PairingRules
    progress : callable
        Called with the name of a stage and the share of it done.
    lobes : callable, optional
        Makes a mask of lobes from the CT.

    Raises
    ------
    Rejected, analysis.errors.Rejected
        Where there is no pair, or it cannot give a valid result: one sentence.
    """
    with tempfile.TemporaryDirectory(prefix="dicom-node-") as folder:
        piles = []
        for n, source in enumerate(sources):
            progress("headers", n / len(sources))
            piles.append(gather(source, Path(folder) / str(n)))
        found = _pair_of(piles, sources, rules)
        paths = {uid: path for pile in piles for uid, path in pile.paths.items()}
        analysis, found = analyse_pair(found, paths, parameters, progress, lobes)
        progress("objects", 0.0)
        mark = fingerprint(found, parameters, version("vq-dicom-node"))
        case = read_case(found, paths, datetime.now().astimezone(), mark)
        _same_patient(case)
        objects = build_objects(
            analysis, case, lambda: load_volume(found.expiratory, paths), (*DEFAULT_OBJECTS, "maps")
        )
        return Outcome(analysis, found, write(record_of(analysis, case), objects, out))


def gather(source: Path, workspace: Path) -> Pile:
    """Read the headers of every DICOM file below a folder, in a zip archive, or of one file.

    Parameters
    ----------
    source : Path
    workspace : Path
        Where archives are unpacked.

    Raises
    ------
    Rejected
        Where there is nothing, or no DICOM.
    """
    files = sorted(_files(source, workspace))
    headers: dict[str, Header] = {}
    paths: dict[str, Path] = {}
    others = 0
    for path in files:
        try:
            header = read_header(path)
        except Rejected:
            others += 1
            continue
        headers[header.sop_instance_uid] = header
        paths[header.sop_instance_uid] = path
    if not headers:
        raise Rejected(f"no DICOM image in {source} ({others} other files)")
    return Pile(tuple(headers.values()), paths, others)


def _files(source: Path, workspace: Path) -> Iterator[Path]:
    if not source.exists():
        raise Rejected(f"{source} does not exist")
    for path in source.rglob("*") if source.is_dir() else [source]:
        if not path.is_file() or path.name == "DICOMDIR":
            continue
        if zipfile.is_zipfile(path):
            target = workspace / path.name
            with zipfile.ZipFile(path) as archive:
                archive.extractall(target)
            yield from (p for p in target.rglob("*") if p.is_file() and p.name != "DICOMDIR")
        else:
            yield path


def _pair_of(piles: list[Pile], sources: tuple[Path, ...], rules: PairingRules) -> Pair:
    if len(piles) == 2:
        phases: tuple[Phase, Phase] = ("inspiration", "expiration")
        parts = [
            _as_phase(assemble(p.headers, rules), f, s)
            for p, f, s in zip(piles, phases, sources, strict=True)
        ]
        return _chosen(pair(_one_study(parts), rules))
    by_study: dict[str, list[Header]] = {}
    for header in piles[0].headers:
        by_study.setdefault(header.study_instance_uid, []).append(header)
    answers = [pair(assemble(headers, rules), rules) for headers in by_study.values()]
    pairs = [answer for answer in answers if isinstance(answer, Pair)]
    if len(pairs) > 1:
        studies = ", ".join(p.expiratory.study_instance_uid for p in pairs)
        raise Rejected(f"{len(pairs)} studies hold a pair ({studies}): run one at a time")
    return pairs[0] if pairs else _chosen(answers[0])


def _chosen(answer: object) -> Pair:
    if isinstance(answer, Pair):
        return answer
    raise Rejected(getattr(answer, "reason", "no pair"))


def _as_phase(assembled: Assembled, phase: Phase, source: Path) -> Assembled:
    """Every stack of a source taken for the phase the command line says, unless its headers contradict."""
    for series in assembled.series:
        if series.phase not in (None, phase):
            raise Rejected(
                f"{source} is given as {phase}, but series {series.series_instance_uid} says {series.phase}"
                f" ({series.evidence})"
            )
    if not assembled.series:
        reasons = "; ".join(f"series {r.series_instance_uid}: {r.reason}" for r in assembled.refused)
        raise Rejected(f"no usable CT series in {source}" + (f": {reasons}" if reasons else ""))
    evidence = "as given on the command line"
    return replace(
        assembled, series=tuple(replace(s, phase=phase, evidence=evidence) for s in assembled.series)
    )


def _one_study(parts: Iterable[Assembled]) -> Assembled:
    """Both sources as if of one study: whoever names two folders has paired them."""
    insp, exp = parts
    study = exp.series[0].study_instance_uid
    series = tuple(replace(s, study_instance_uid=study) for s in (*insp.series, *exp.series))
    return replace(exp, series=series, refused=(*insp.refused, *exp.refused))


def _same_patient(case: Case) -> None:
    if str(case.inspiratory[0].PatientID) != str(case.expiratory[0].PatientID):
        raise Rejected("the two series belong to different patients")
