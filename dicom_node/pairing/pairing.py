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
from .between_studies import belong
from .breathing_cycle import with_ends
from .people import two_people
from .phase_names import NEITHER
from .positions import CONTRADICTED, differ

#: Slices thinner than this only add noise and memory (mm).
FLOOR_MM = 1.0
#: How many series that cannot be used a refusal names.
MOST_LEFT_OUT = 4


@dataclass(frozen=True)
class NoPair:
    """Say why there is no pair.

    Parameters
    ----------
    reason : str
        One sentence; series named by their UIDs.
    waiting : bool
        True where images still to come may complete a pair; False where only a person can.
    people : bool
        True where the two series seem to be of two patients: the audit trail records that.
    """

    reason: str
    waiting: bool
    people: bool = False


def pair(assembled: Assembled, rules: PairingRules) -> Pair | NoPair:
    """Choose the inspiratory and the expiratory stack of a study.

    Parameters
    ----------
    assembled : Assembled
        All stacks of one study so far, or of several studies between which `rules` allow pairs.
    rules : PairingRules

    Returns
    -------
    Pair
        With ``decided`` False where nothing says which phase one of the two, or both, are: then the larger
        segmented lung volume decides.
    NoPair
        It says what is missing.

    Notes
    -----
    Where a phase has several stacks (thin and thick, soft and sharp), the pair of the lowest rank is taken:
    one position of the patient, axial before oblique, original before derived, soft kernels before sharp ones, one
    kernel for both, thinner slices (down to 1 mm), closest spacing, largest coverage, and at last the lower UID of the
    series.
    """
    usable = with_ends([s for s in assembled.series if _slice_mm(s) <= rules.max_slice_mm])
    inspiratory = [s for s in usable if s.phase == "inspiration"]
    expiratory = [s for s in usable if s.phase == "expiration"]
    unknown = [s for s in usable if s.phase is None and NEITHER not in s.evidence]
    if both := _fitting(product(inspiratory, expiratory), rules):
        i, e = min(both, key=_rank)
        return Pair(i, e, True, f"inspiration: {i.evidence}; expiration: {e.evidence}")
    if not (inspiratory and expiratory) and (found := _presumed(inspiratory, expiratory, unknown, rules)):
        return found
    if not inspiratory and not expiratory and (found_or_not := _unnamed(unknown, rules)):
        return found_or_not
    if refused := _of_two_people(inspiratory, expiratory, unknown):
        return refused
    turned = _turned(inspiratory, expiratory, unknown)
    return NoPair(_waiting(inspiratory, expiratory, unknown) + turned + _left_out(assembled, rules), True)


def _fitting(pairs: Iterable[tuple[Series, Series]], rules: PairingRules) -> list[tuple[Series, Series]]:
    """Return the pairs of one patient in one position, from one study or from two as close as `rules` require."""
    return [
        (a, b)
        for a, b in pairs
        if not _people_differ(a, b)
        and (rules.different_positions or not differ(a.lie, b.lie))
        and (a.study_instance_uid == b.study_instance_uid or belong(a, b, rules))
    ]


def _people_differ(a: Series, b: Series) -> str:
    one_study = a.study_instance_uid == b.study_instance_uid
    found = (two_people(p, q, one_study=one_study) for p, q in product(a.people, b.people))
    return next((difference for difference in found if difference), "")


def _of_two_people(
    inspiratory: Sequence[Series], expiratory: Sequence[Series], unknown: Sequence[Series]
) -> NoPair | None:
    """Return the refusal of two series that would be a pair if they were of one patient."""
    for a, b in (*product(inspiratory, expiratory), *product((*inspiratory, *expiratory), unknown),
                 *combinations(unknown, 2)):  # fmt: skip
        if a.study_instance_uid == b.study_instance_uid and (difference := _people_differ(a, b)):
            uids = f"{a.series_instance_uid} and {b.series_instance_uid}"
            return NoPair(f"series {uids} are of two patients: {difference}", False, people=True)
    return None


def _turned(inspiratory: Sequence[Series], expiratory: Sequence[Series], unknown: Sequence[Series]) -> str:
    """Return why there is no pair where the patient was turned between the two series; "" for other reasons."""
    for a, b in (*product(inspiratory, expiratory), *product((*inspiratory, *expiratory), unknown)):
        if differ(a.lie, b.lie):
            lies = " and ".join(f"series {s.series_instance_uid} {s.lie or 'not known'}" for s in (a, b))
            return f"; the positions of the patient differ ({lies}; Patient Position (0018,5100) or words)"
    return ""


def _presumed(
    inspiratory: Sequence[Series],
    expiratory: Sequence[Series],
    unknown: Sequence[Series],
    rules: PairingRules,
) -> Pair | None:
    """Pair a named phase with a breath-hold of unknown phase, presumably the other; lung volumes must confirm it."""
    named = inspiratory or expiratory
    candidates = [p for p in _fitting(product(named, unknown), rules) if _another_breath(*p)]
    if not candidates:
        return None
    known, other = min(candidates, key=_rank)
    reason = f"{known.phase}: {known.evidence}; the other is presumed ({other.evidence})"
    return Pair(known, other, False, reason) if inspiratory else Pair(other, known, False, reason)


def _unnamed(unknown: Sequence[Series], rules: PairingRules) -> Pair | NoPair | None:
    """Pair two breath-holds of which nothing names a phase; among more than two, a person must choose."""
    if len(unknown) < 2:
        return None
    breaths = _fitting(combinations(sorted(unknown, key=_first), 2), rules)
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


def _another_breath(a: Series, b: Series) -> bool:
    """Return whether two series are different breath-holds: not reconstructions of one place and time."""
    if not a.acquired or a.acquired != b.acquired:
        return True
    if _lean(a) != _lean(b):
        return False
    ends = [(s.slices[0].position, s.slices[-1].position) for s in (a, b)]
    return not np.allclose(ends[0], ends[1], atol=max(a.gap, b.gap))


def _first(s: Series) -> tuple[str, str]:
    return s.acquired, s.series_instance_uid


def _slice_mm(s: Series) -> float:
    return round(max(s.gap, s.slices[0].thickness or 0.0), 2)  # rounded positions make 5.001 of 5 mm


def _sharp(s: Series) -> bool:
    return kernel_class(s.kernel) == "sharp"


def _lean(s: Series) -> int:
    """Return how far the slices are tilted from axial, in steps of 30 degrees."""
    row, column = np.reshape(s.slices[0].orientation, (2, 3))
    return int(np.degrees(np.arccos(min(1.0, abs(float(np.cross(row, column)[2]))))) // 30)


def _coverage(s: Series) -> float:
    return s.gap * len(s.slices)


#: What makes one pair better than another, strongest first; the lower the better.
RANK: tuple[Callable[[Series, Series], float], ...] = (
    lambda a, b: a.study_instance_uid != b.study_instance_uid,
    lambda a, b: a.lie != b.lie,
    lambda a, b: sum(CONTRADICTED in note for s in (a, b) for note in s.notes),
    lambda a, b: a.patient_position != b.patient_position,
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
    """Return what could not be used, for the end of a refusal."""
    thick = [
        f"series {s.series_instance_uid} has slices of {_slice_mm(s):g} mm, limit {rules.max_slice_mm:g} mm"
        for s in assembled.series
        if _slice_mm(s) > rules.max_slice_mm
    ]
    told = [*thick, *(f"series {r.series_instance_uid} refused: {r.reason}" for r in assembled.refused)]
    if len(told) > MOST_LEFT_OUT:
        told = [*told[:MOST_LEFT_OUT], f"and {len(told) - MOST_LEFT_OUT} more series or parts of them"]
    return "".join(f"; {text}" for text in told)


def fingerprint(pair: Pair, parameters: Parameters, version: str) -> str:
    """Return what identifies a result: the same images, phases, software and parameters make no second job."""
    both = pair.inspiratory, pair.expiratory
    uids = sorted({uid for series in both for uid in series.sop_instance_uids})
    phases = sorted(f"{s.series_instance_uid} {s.phase or ''}" for s in both)
    return hashlib.sha256("\n".join([*uids, *phases, version, dump(parameters)]).encode()).hexdigest()
