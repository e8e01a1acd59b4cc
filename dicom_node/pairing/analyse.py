"""A pair and its files -> an Analysis: load, tell inspiration from expiration, analyse; no network, no database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from analysis import errors as analysis_errors
from analysis.measures.findings import Finding, QualityRejected, failed
from analysis.measures.quality import Acquisition, acquisition_findings
from analysis.parameters import Parameters
from analysis.pipeline.pipeline import Analysis, Phase, analyse_phases, order_phases
from analysis.volume import DisplacementField, Volume

from ..dicom.pixels import check_volume, load_volume
from ..errors import Rejected
from ..model import Pair, Series
from .lobes_program import LobeSource

Progress = Callable[[str, float], None]


#: Share of a job's time at which each stage begins, as measured on a 512 x 512 x 150 pair (docs/operating.md).
STAGES: Mapping[str, float] = {
    "reading": 0.0,
    "lungs": 0.05,
    "registration": 0.21,
    "maps": 0.63,
    "measures": 0.67,
    "objects": 0.74,
}


#: How the patient lies -> unit vector away from the floor, LPS.
UP: Mapping[str, tuple[float, float, float]] = {
    "supine": (0.0, -1.0, 0.0),
    "prone": (0.0, 1.0, 0.0),
    "decubitus right": (1.0, 0.0, 0.0),
    "decubitus left": (-1.0, 0.0, 0.0),
}


@dataclass(frozen=True, eq=False)
class Own:
    """Hold what a user brings in place of what is computed; None for what is computed.

    Attributes
    ----------
    lungs : (Volume or None, Volume or None)
        Masks for inspiration and expiration.
    displacement : DisplacementField or None
    """

    lungs: tuple[Volume | None, Volume | None] = (None, None)
    displacement: DisplacementField | None = None


def share_done(stage: str, share: float) -> float:
    """Return the share of a whole analysis that is done, 0…1, from a stage of `STAGES` and the share of it.

    Examples
    --------
    >>> share_done("lungs", 0.0), share_done("objects", 1.0)
    (0.05, 1.0)
    """
    begins = STAGES[stage]
    ends = min((s for s in STAGES.values() if s > begins), default=1.0)
    return begins + (ends - begins) * min(max(share, 0.0), 1.0)


def analyse_pair(
    pair: Pair,
    paths: Mapping[str, Path],
    parameters: Parameters,
    progress: Progress,
    lobes: LobeSource | None = None,
    own: Own | None = None,
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
    own : Own, optional
        Lungs and a field that are not to be computed.

    Returns
    -------
    (Analysis, Pair)
        The pair's phases are in the order that the lung volumes show.

    Raises
    ------
    Rejected, analysis.errors.Rejected
        Where the images cannot give a valid result, or a series' headers name one phase and its lungs show the other.
    """
    check_headers(pair, parameters)
    own, told = own or Own(), SideBySide(progress)

    def phase(n: int, series: Series) -> tuple[Phase, Volume | None]:
        volume = load_volume(series, paths, lambda share: told.read(n, share))
        try:
            found = Phase.of(volume, parameters, own.lungs[n])
        except analysis_errors.Rejected as error:
            raise Rejected(f"series {series.series_instance_uid}: {error}") from error
        told.found()
        return found, volume if n == 0 and lobes is not None else None

    # NumPy and SciPy mostly work without the interpreter's lock: two CTs take little longer than one on two cores
    with ThreadPoolExecutor(2) as threads:
        (first, ct), (second, _) = threads.map(phase, (0, 1), (pair.inspiratory, pair.expiratory))
    mask = lobes(ct) if lobes is not None and ct is not None else None
    del ct
    ordered = in_order(pair, (first.lung_ml, second.lung_ml))
    if ordered.inspiratory is not pair.inspiratory and any(own.lungs):
        raise Rejected(
            "the lung masks show the larger lungs on what is given as expiration: exchange the two phases"
        )
    insp, exp = order_phases(first, second)
    made = acquisition(ordered.inspiratory), acquisition(ordered.expiratory)
    analysis = analyse_phases(insp, exp, parameters, progress, made, mask, own.displacement)
    return replace(analysis, findings=(*analysis.findings, *header_findings(ordered))), ordered


class SideBySide:
    """Tells the progress of both CTs, which are read and searched side by side, as one that never goes back."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._lock = progress, Lock()
        self._read, self._found = [0.0, 0.0], 0

    def read(self, n: int, share: float) -> None:
        """Tell how much of the CT of number n is read."""
        with self._lock:
            self._read[n] = share
            both = sum(self._read) / 2
            if both < 1:
                self._progress("reading", both)
            else:
                self._progress("lungs", self._found / 2)

    def found(self) -> None:
        """Tell that the lungs of one more CT are found."""
        with self._lock:
            self._found += 1
            if sum(self._read) == 2:
                self._progress("lungs", self._found / 2)


def check_headers(pair: Pair, parameters: Parameters) -> None:
    """Refuse a pair for what its headers alone show, before any pixel is read.

    Raises
    ------
    Rejected, analysis.errors.Rejected
        Where a stack is too large or no box, the headers name a contrast agent or slices too thick, or the height
        in the lungs is asked for and nothing says how the patient lay.
    """
    both = pair.inspiratory, pair.expiratory
    for series in both:
        check_volume(series)
    findings = acquisition_findings(*map(acquisition, both))
    if failed(findings) and not parameters.accept_failed_checks:
        if pair.decided:
            raise QualityRejected(findings)
        said = "; ".join(f.sentence for f in findings if f.verdict == "fail")
        for phase, series in zip(
            ("inspiration", "expiration"), both, strict=True
        ):  # not known yet which is which
            said = said.replace(f"on {phase}", f"on series {series.series_instance_uid}")
        raise Rejected(said)
    lie_on = both[1:] if pair.decided else both
    if parameters.gravity and all(acquisition(series).up is None for series in lie_on):
        raise Rejected("gravity's part of V and Q cannot be taken out: nothing says how the patient lay")


def header_findings(pair: Pair) -> tuple[Finding, ...]:
    """Return what a reader of the result must know from the headers: odd instances, spacing, positions."""
    insp, exp = pair.inspiratory, pair.expiratory
    found = [f"Series {s.series_instance_uid}: {note}" for s in (insp, exp) for note in s.notes]
    lies = f"Inspiration {insp.lie or 'not known'}, expiration {exp.lie or 'not known'}."
    if {insp.lie, exp.lie} - {"", "supine"} or (insp.lie != exp.lie and insp.lie and exp.lie):
        found.append(lies)
    limit = "warn on what headers leave out, contradict or change"
    return tuple(Finding("series", "warn", None, "1", limit, sentence) for sentence in found)


def in_order(pair: Pair, lung_ml: tuple[float, float]) -> Pair:
    """Return the pair ordered by lung volume: the larger lungs are inspiration.

    Parameters
    ----------
    lung_ml : (float, float)
        Of ``pair.inspiratory`` and ``pair.expiratory``, mL.

    Raises
    ------
    Rejected
        Where the headers of a series say that it is the other phase.
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
    """Return what the quality checks need to know of how a series was acquired."""
    thickness = round(
        max(series.gap, series.slices[0].thickness or 0.0), 2
    )  # rounded positions make 5.001 of 5 mm
    return Acquisition(series.kernel, thickness, series.contrast, UP.get(series.lie))
