"""Two Series of one study -> Pair, or why not yet (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from analysis.measures.kernels import kernel_class
from analysis.parameters import Parameters

from ..model import Assembled, Pair, PairingRules, Series
from ..strict_json import dump

#: Thinner than this only adds noise and memory.
FLOOR_MM = 1.0


@dataclass(frozen=True)
class NoPair:
    """Why there is no pair.

    Parameters
    ----------
    reason : str
        One sentence; series named by their UIDs.
    waiting : bool
        True where images still to come may complete a pair; False where only a person can.
    """

    reason: str
    waiting: bool


def pair(assembled: Assembled, rules: PairingRules) -> Pair | NoPair:
    """Choose the inspiratory and the expiratory stack of a study.

    Parameters
    ----------
    assembled : Assembled
        Everything known of one study so far (stacks of different studies are never paired).
    rules : PairingRules

    Returns
    -------
    Pair
        With ``decided`` False where nothing says which phase one of the two, or both, are: then the larger
        segmented lung volume decides.
    NoPair
        With what is missing.

    Notes
    -----
    Where a phase has several stacks (thin and thick, soft and sharp), the pair of the lowest rank is taken:
    axial before oblique, original before derived, soft kernels before sharp ones, one kernel for both,
    thinner slices (down to 1 mm), closest spacing, largest coverage, and at last the lower UID of the series.
    """
    usable = [s for s in assembled.series if _slice_mm(s) <= rules.max_slice_mm]
    inspiratory = [s for s in usable if s.phase == "inspiration"]
    expiratory = [s for s in usable if s.phase == "expiration"]
    unknown = [s for s in usable if s.phase is None]
    if both := list(_same_study(product(inspiratory, expiratory))):
        i, e = min(both, key=_rank)
        return Pair(i, e, True, f"inspiration: {i.evidence}; expiration: {e.evidence}")
    if found := _presumed(inspiratory, expiratory, unknown):
        return found
    if not inspiratory and not expiratory and (found_or_not := _unnamed(unknown)):
        return found_or_not
    return NoPair(_waiting(inspiratory, expiratory, unknown) + _left_out(assembled, rules), True)


def _presumed(
    inspiratory: Sequence[Series], expiratory: Sequence[Series], unknown: Sequence[Series]
) -> Pair | None:
    """One phase is named, another breath-hold is not: presumably the other one; the volumes must confirm."""
    named = inspiratory or expiratory
    candidates = [p for p in _same_study(product(named, unknown)) if _another_breath(*p)]
    if not candidates:
        return None
    known, other = min(candidates, key=_rank)
    reason = f"{known.phase}: {known.evidence}; the other is presumed ({other.evidence})"
    return Pair(known, other, False, reason) if inspiratory else Pair(other, known, False, reason)


def _unnamed(unknown: Sequence[Series]) -> Pair | NoPair | None:
    """Nothing names a phase: two breath-holds make a pair, more are a person's to choose from."""
    if len(unknown) < 2:
        return None
    breaths = list(_same_study(combinations(sorted(unknown, key=_first), 2)))
    different = [p for p in breaths if _another_breath(*p)]
    times = {s.acquired for s in unknown}
    if len(unknown) > 2 and len(times) != 2:
        uids = ", ".join(s.series_instance_uid for s in unknown)
        return NoPair(f"{len(unknown)} stacks and nothing says which phases they are (series {uids})", False)
    if len(unknown) > 2:
        different = [p for p in different if p[0].acquired != p[1].acquired]
    if not different:
        return None
    a, b = min(different, key=_rank)
    return Pair(
        a,
        b,
        False,
        "two breath-holds and nothing says which phases they are: the larger lungs are inspiratory",
    )


def _same_study(pairs: Iterable[tuple[Series, Series]]) -> Iterable[tuple[Series, Series]]:
    return (p for p in pairs if p[0].study_instance_uid == p[1].study_instance_uid)


def _another_breath(a: Series, b: Series) -> bool:
    """False for two reconstructions of one scan: the same places at the same time."""
    if not a.acquired or a.acquired != b.acquired:
        return True
    ends = [(s.slices[0].position, s.slices[-1].position) for s in (a, b)]
    return not np.allclose(ends[0], ends[1], atol=max(a.gap, b.gap))


def _first(s: Series) -> tuple[str, str]:
    return s.acquired, s.series_instance_uid


def _slice_mm(s: Series) -> float:
    return max(s.gap, s.slices[0].thickness or 0.0)


def _sharp(s: Series) -> bool:
    return kernel_class(s.kernel) == "sharp"


def _lean(s: Series) -> int:
    """How far the slices are from axial, in steps of 30 degrees."""
    row, column = np.reshape(s.slices[0].orientation, (2, 3))
    return int(np.degrees(np.arccos(min(1.0, abs(float(np.cross(row, column)[2]))))) // 30)


def _coverage(s: Series) -> float:
    return s.gap * len(s.slices)


#: What makes one pair better than another, strongest first; the lower the better.
RANK: tuple[Callable[[Series, Series], float], ...] = (
    lambda a, b: _lean(a) + _lean(b),
    lambda a, b: a.derived + b.derived,
    lambda a, b: _sharp(a) + _sharp(b),
    lambda a, b: a.kernel.upper() != b.kernel.upper(),
    lambda a, b: round(max(_slice_mm(a), _slice_mm(b), FLOOR_MM), 2),
    lambda a, b: round(abs(a.gap - b.gap), 2),
    lambda a, b: -round(min(_coverage(a), _coverage(b)) / 10),
    lambda a, b: round(max(a.gap, b.gap), 3),
)


def _rank(candidates: tuple[Series, Series]) -> tuple[float | str | tuple[str, ...], ...]:
    a, b = candidates
    names = tuple((s.series_instance_uid, *s.slices[0].acquisition) for s in candidates)
    return (*(float(better(a, b)) for better in RANK), *names)


def _uids(series: Sequence[Series]) -> str:
    return ", ".join(dict.fromkeys(s.series_instance_uid for s in series))


def _waiting(inspiratory: Sequence[Series], expiratory: Sequence[Series], unknown: Sequence[Series]) -> str:
    for series, phase, other in (
        (inspiratory, "inspiratory", "expiratory"),
        (expiratory, "expiratory", "inspiratory"),
    ):
        if len(series) > 1:
            many = f"{len(series)} {phase} stacks and no {other} one"
            return f"waiting for the other phase: {many} (series {_uids(series)})"
        if series:
            noun = series[0].phase
            return f"waiting for the other phase: only {noun} (series {_uids(series)}) so far"
    if unknown:
        only = f"only one breath-hold (series {_uids(unknown)}) so far"
        return f"waiting for the other phase: {only}, its phase not named"
    return "waiting: no usable chest CT stack so far"


def _left_out(assembled: Assembled, rules: PairingRules) -> str:
    """What was there and could not be used."""
    thick = [
        f"series {s.series_instance_uid} has slices of {_slice_mm(s):g} mm, limit {rules.max_slice_mm:g} mm"
        for s in assembled.series
        if _slice_mm(s) > rules.max_slice_mm
    ]
    refused = [f"series {r.series_instance_uid} refused: {r.reason}" for r in assembled.refused]
    return "".join(f"; {text}" for text in (*thick, *refused))


def fingerprint(pair: Pair, parameters: Parameters, version: str) -> str:
    """What makes a result: the same images, phases, software and parameters never make a second job."""
    both = pair.inspiratory, pair.expiratory
    uids = sorted({uid for series in both for uid in series.sop_instance_uids})
    phases = sorted(f"{s.series_instance_uid} {s.phase or ''}" for s in both)
    return hashlib.sha256("\n".join([*uids, *phases, version, dump(parameters)]).encode()).hexdigest()
