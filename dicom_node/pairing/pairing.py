"""Two Series of one study -> Pair, or why not yet (pure)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from analysis.pipeline.pipeline import Parameters

from ..model import Assembled, Pair, PairingRules, Series
from ..strict_json import dump
from .between_studies import belong
from .people import two_people
from .phase_names import NEITHER
from .positions import CONTRADICTED, differ

#: Kernels that enhance edges, and so noise: densities and registration suffer.
SHARP = re.compile(
    r"^(?:[BIDHQ][RHLV]?[5-9]\d|U[5-9]\d|[BD]70|FC(?:5\d|8\d|0?7|30|31)|YA|YB|YC|YD|L$|E$|LUNG|BONE|EDGE|SHARP|DETAIL)",
    re.IGNORECASE,
)
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
    people : bool
        True where what would be a pair is of two patients: the audit trail is told.
    """

    reason: str
    waiting: bool
    people: bool = False


def pair(assembled: Assembled, rules: PairingRules) -> Pair | NoPair:
    """Choose the inspiratory and the expiratory stack of a study.

    Parameters
    ----------
    assembled : Assembled
        Everything known of one study so far, or of studies of which `rules` allow pairs between them.
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
    one study, one position of the patient, axial before oblique, original before derived, soft kernels before sharp
    ones, one kernel for both,
    thinner slices (down to 1 mm), closest spacing, largest coverage, and at last the lower UID of the series.
    """
    usable = [s for s in assembled.series if _slice_mm(s) <= rules.max_slice_mm]
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
    """Pairs of one patient, in one position, of one study or as near as `rules` want those of two."""
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
    """What would be a pair, were it of one patient."""
    for a, b in (*product(inspiratory, expiratory), *product((*inspiratory, *expiratory), unknown),
                 *combinations(unknown, 2)):  # fmt: skip
        if a.study_instance_uid == b.study_instance_uid and (difference := _people_differ(a, b)):
            uids = f"{a.series_instance_uid} and {b.series_instance_uid}"
            return NoPair(f"series {uids} are of two patients: {difference}", False, people=True)
    return None


def _turned(inspiratory: Sequence[Series], expiratory: Sequence[Series], unknown: Sequence[Series]) -> str:
    """Why a pair was not made whose series the patient was turned between."""
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
    """One phase is named, another breath-hold is not: presumably the other one; the volumes must confirm."""
    named = inspiratory or expiratory
    candidates = [p for p in _fitting(product(named, unknown), rules) if _another_breath(*p)]
    if not candidates:
        return None
    known, other = min(candidates, key=_rank)
    reason = f"{known.phase}: {known.evidence}; the other is presumed ({other.evidence})"
    return Pair(known, other, False, reason) if inspiratory else Pair(other, known, False, reason)


def _unnamed(unknown: Sequence[Series], rules: PairingRules) -> Pair | NoPair | None:
    """Nothing names a phase: two breath-holds make a pair, more are a person's to choose from."""
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
    return bool(SHARP.match(s.kernel.replace(" ", "")))


def _lean(s: Series) -> int:
    """How far the slices are from axial, in steps of 30 degrees."""
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
