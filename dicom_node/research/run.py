"""`dicom-node run`: a pair on disk -> results on disk, by the same steps as the node; no network, no database."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from analysis.parameters import Parameters, PictureStyle
from analysis.pipeline.pipeline import Analysis
from analysis.volume.image_files import is_image_file

from ..dicom.pixels import load_volume
from ..errors import Rejected
from ..model import Assembled, Header, Pair, PairingRules, Phase
from ..pairing.analyse import Progress, analyse_pair
from ..pairing.pairing import NoPair, fingerprint, pair
from ..pairing.stacks import assemble
from ..results.context import read_case
from ..results.files import record_of, write
from ..results.kinds import DEFAULT_OBJECTS, build_objects
from .given import Given
from .image_pair import analyse_images
from .pile import Pile, gather, joined
from .whole_folder import check_folder, whole_folder


@dataclass(frozen=True)
class Recipe:
    """Hold how pairs are analysed and what is made of them.

    Parameters
    ----------
    parameters : Parameters
    rules : PairingRules
    objects : tuple of str
        Kinds of DICOM objects, of `results.kinds.OBJECT_KINDS`.
    style : PictureStyle
        How pictures show V and Q.
    """

    parameters: Parameters = field(default_factory=Parameters)
    rules: PairingRules = field(default_factory=PairingRules)
    objects: tuple[str, ...] = DEFAULT_OBJECTS
    style: PictureStyle = field(default_factory=PictureStyle)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Hold what a run made: the result and the files written."""

    analysis: Analysis
    files: tuple[Path, ...]


def run(
    sources: tuple[Path, ...],
    out: Path,
    recipe: Recipe,
    progress: Progress,
    given: Given | None = None,
    study: str = "",
) -> Outcome:
    """Analyse a pair found on disk and write its results: the folder appears whole, or not at all.

    Parameters
    ----------
    sources : tuple of Path
        Inspiration and expiration, or one source that holds both: folders, zip archives or files of DICOM; or two
        files of any other format that SimpleITK reads.
    out : Path
        Folder for the results; one that holds an earlier result is replaced.
    recipe : Recipe
    progress : callable
        Called with the name of a stage and the share of it done.
    given : Given, optional
        Masks and a field of the user's.
    study : str
        Study Instance UID: where it is given, images of other studies are not looked at, and each of the sources may
        hold images of either phase.

    Raises
    ------
    Rejected, analysis.errors.Rejected
        Where there is no pair, or it cannot give a valid result; the message is one sentence.
    """
    given = given or Given()
    check_folder(out)
    if [is_image_file(source) for source in sources] == [True, True]:
        insp, exp = sources
        record = analyse_images(insp, exp, recipe.parameters, progress, given)
        with whole_folder(out) as draft:
            files = write(record, (), draft, recipe.style)
        return Outcome(record.analysis, tuple(out / path.relative_to(draft) for path in files))
    with tempfile.TemporaryDirectory(prefix="dicom-node-") as folder:
        piles = []
        for n, source in enumerate(sources):
            progress("headers", n / len(sources))
            piles.append(gather(source, Path(folder) / str(n), study))
        if study:
            piles = [joined(piles)]
        found = _pair_of(piles, sources, recipe.rules)
        paths = {uid: path for pile in piles for uid, path in pile.paths.items()}
        return _of_dicom(found, paths, out, recipe, progress, given)


def _of_dicom(
    found: Pair, paths: dict[str, Path], out: Path, recipe: Recipe, progress: Progress, given: Given
) -> Outcome:
    """Analyse a pair of DICOM series and write its results."""
    mark = fingerprint(found, recipe.parameters, version("vq-dicom-node"))
    case = replace(read_case(found, paths, datetime.now().astimezone(), mark), style=recipe.style)
    source, own = given.lobe_source(), given.read()
    analysis, found = analyse_pair(found, paths, recipe.parameters, progress, source, own)
    progress("objects", 0.0)
    case = case.ordered(found)
    analysis = replace(analysis, findings=(*analysis.findings, *case.findings()))
    objects = build_objects(analysis, case, lambda: load_volume(found.expiratory, paths), recipe.objects)
    with whole_folder(out) as draft:
        files = write(record_of(analysis, case), objects, draft, recipe.style)
    progress("objects", 1.0)
    return Outcome(analysis, tuple(out / path.relative_to(draft) for path in files))


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
