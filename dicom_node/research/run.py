"""`dicom-node run`: DICOM on disk -> results on disk, by the same steps as the node; no network, no database."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from analysis.parameters import Parameters
from analysis.pipeline.pipeline import Analysis

from ..dicom.archives import Unpacked, kind_of, unpack
from ..dicom.headers import read_header
from ..dicom.pixels import load_volume
from ..errors import Rejected
from ..model import Assembled, Header, Pair, PairingRules, Phase
from ..pairing.analyse import Progress, analyse_pair
from ..pairing.lobes_program import LobeSource
from ..pairing.pairing import NoPair, fingerprint, pair
from ..pairing.stacks import assemble
from ..results.context import read_case
from ..results.files import record_of, write
from ..results.kinds import DEFAULT_OBJECTS, build_objects

#: How many reasons for leaving out files a refusal lists.
MOST_REASONS = 5


@dataclass(frozen=True)
class Pile:
    """Hold what was found on disk.

    Attributes
    ----------
    headers : tuple of Header
        One for every SOP instance, each once.
    paths : dict of SOP Instance UID to Path
    others : mapping of str to int
        Reason -> number of files left out for it.
    """

    headers: tuple[Header, ...]
    paths: dict[str, Path]
    others: Mapping[str, int]

    @property
    def left_out(self) -> str:
        """Return the end of a refusal: how many files were left out for which reason, the most frequent first."""
        found = sorted(self.others.items(), key=lambda item: -item[1])
        told = [f"{count} file{'s' * (count > 1)}: {reason}" for reason, count in found[:MOST_REASONS]]
        if len(found) > MOST_REASONS:
            told.append(f"{sum(count for _, count in found[MOST_REASONS:])} files for other reasons")
        return f" ({'; '.join(told)})" if told else ""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Hold what a run made: the result, its pair and the files written."""

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
        Inspiration and expiration, or one source that holds both: folders, zip archives or files.
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
        Where there is no pair, or it cannot give a valid result; the message is one sentence.
    """
    _begin(out)
    with tempfile.TemporaryDirectory(prefix="dicom-node-") as folder:
        piles = []
        for n, source in enumerate(sources):
            progress("headers", n / len(sources))
            piles.append(gather(source, Path(folder) / str(n)))
        found = _pair_of(piles, sources, rules)
        paths = {uid: path for pile in piles for uid, path in pile.paths.items()}
        mark = fingerprint(found, parameters, version("vq-dicom-node"))
        case = read_case(found, paths, datetime.now().astimezone(), mark)
        analysis, found = analyse_pair(found, paths, parameters, progress, lobes)
        progress("objects", 0.0)
        case = case.ordered(found)
        analysis = replace(analysis, findings=(*analysis.findings, *case.findings()))
        objects = build_objects(
            analysis, case, lambda: load_volume(found.expiratory, paths), (*DEFAULT_OBJECTS, "maps")
        )
        return Outcome(analysis, found, write(record_of(analysis, case), objects, out))


def _begin(out: Path) -> None:
    """Make the folder for the results, so that one that cannot be written to is known before the analysis."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Rejected(f"no results can be written to {out}: {error.strerror}") from error


def gather(source: Path, workspace: Path) -> Pile:
    """Read the headers of every DICOM file below a folder, in zip archives, or of one file.

    Parameters
    ----------
    source : Path
    workspace : Path
        Where archives are unpacked, each into a folder of its own.

    Raises
    ------
    Rejected
        Where there is no file, or no DICOM; the message says how many files were left out, and why.
    """
    headers: dict[str, Header] = {}
    paths: dict[str, Path] = {}
    others: Counter[str] = Counter()
    for path in _files(source, workspace, others):
        try:
            header = read_header(path)
        except Rejected as error:
            others[_reason(str(error))] += 1
            continue
        uid = header.sop_instance_uid
        if uid in headers and header != headers[uid]:
            others["has the SOP Instance UID (0008,0018) of another file and other content"] += 1
            continue
        headers.setdefault(uid, header)
        paths.setdefault(uid, path)
    pile = Pile(tuple(headers.values()), paths, others)
    if not headers:
        raise Rejected(f"no DICOM image in {source}{pile.left_out}")
    return pile


def _reason(sentence: str) -> str:
    """Return why a file is left out without naming it, so that files with the same reason can be counted."""
    return re.sub(r"^SOP instance (of unknown UID|\S+) ", "", sentence)


def _files(source: Path, workspace: Path, others: Counter[str]) -> Iterator[Path]:
    if not source.exists():
        raise Rejected(f"{source} does not exist")
    unpacked = Unpacked()
    for n, path in enumerate(sorted(source.rglob("*")) if source.is_dir() else [source]):
        if not path.is_file() or path.name == "DICOMDIR":
            continue
        if not kind_of(path) and path.suffix.lower() != ".zip":
            yield path
            continue
        try:
            # whole, before any file is read: what a damaged archive gave up to its damage is a part of a series
            found = list(unpack(path, workspace / str(n), unpacked))
        except Rejected as error:
            if path == source:
                raise
            others[str(error)] += 1
            continue
        for one in found:
            if kind := kind_of(one):
                others[f"is a {kind} archive in {path.name}: unpack it"] += 1
            else:
                yield one


def _pair_of(piles: list[Pile], sources: tuple[Path, ...], rules: PairingRules) -> Pair:
    left_out = "".join(pile.left_out for pile in piles)
    try:
        found = _pair_of_two(piles, sources, rules) if len(piles) == 2 else _pair_in(piles[0], rules)
    except Rejected as error:
        raise Rejected(f"{error}{left_out}") from error
    if set(found.inspiratory.sop_instance_uids) & set(found.expiratory.sop_instance_uids):
        uid = found.inspiratory.series_instance_uid
        if found.inspiratory.slices == found.expiratory.slices:
            raise Rejected(f"series {uid} is given twice: inspiration and expiration are the same images")
    return found


def _pair_of_two(piles: list[Pile], sources: tuple[Path, ...], rules: PairingRules) -> Pair:
    phases: tuple[Phase, Phase] = ("inspiration", "expiration")
    parts = [
        _as_phase(assemble(p.headers, rules), f, s) for p, f, s in zip(piles, phases, sources, strict=True)
    ]
    return _chosen(pair(_one_study(parts), rules))


def _pair_in(pile: Pile, rules: PairingRules) -> Pair:
    """Return the pair of the one study that holds one; if none does, a pair between studies of a patient."""
    by_study: dict[str, list[Header]] = {}
    for header in pile.headers:
        by_study.setdefault(header.study_instance_uid, []).append(header)
    answers = [pair(assemble(headers, rules), rules) for headers in by_study.values()]
    pairs = [answer for answer in answers if isinstance(answer, Pair)]
    if len(pairs) > 1:
        studies = ", ".join(p.expiratory.study_instance_uid for p in pairs)
        raise Rejected(f"{len(pairs)} studies hold a pair ({studies}): run one at a time")
    if pairs:
        return pairs[0]
    refused = next((a for a in answers if isinstance(a, NoPair) and a.people), None)
    return _chosen(refused or pair(assemble(pile.headers, rules), rules))


def _chosen(answer: Pair | NoPair) -> Pair:
    if isinstance(answer, Pair):
        return answer
    raise Rejected(answer.reason)


def _as_phase(assembled: Assembled, phase: Phase, source: Path) -> Assembled:
    """Give every stack of a source the phase that the command line says, unless its headers contradict."""
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
    """Join both sources as if they were one study, because whoever names two folders has paired them."""
    insp, exp = parts
    study = exp.series[0].study_instance_uid
    series = tuple(replace(s, study_instance_uid=study) for s in (*insp.series, *exp.series))
    return replace(exp, series=series, refused=(*insp.refused, *exp.refused))
