"""Headers, in any order -> Series in the order of space, or why not (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..model import ACQUISITION, Assembled, Header, PairingRules, Phase, Refusal, Series, Slice
from .people import two_people
from .phase_names import phase_of
from .positions import lie_of

#: A stack with fewer slices, or covering less of the patient, is not a chest CT.
MIN_SLICES = 20
MIN_COVERAGE_MM = 100.0
#: Two slices closer than this are at the same place.
SAME_PLACE_MM = 0.01
#: Slices may lie this far off the even line that fits them best, mm: what no reader of the images could see; and this
#: far where every position is rounded to a whole millimetre; and never more than this share of the gap, because a
#: missing slice puts its neighbours 0.4 of a gap off.
UNEVEN_MM, ROUNDED_MM, UNEVEN_SHARE = 0.35, 0.51, 0.35
#: Larger deviations are reported; smaller ones are common, because positions are often rounded to 0.1 mm.
TOLD_MM = 0.11
#: Beyond this the stack is sheared and not a box.
MAX_TILT_DEGREES = 0.2
#: Two orientations (direction cosines), or two pixel spacings (mm), this close count as equal.
SAME = 1e-3

#: Body Part Examined values that can hold no lung.
NOT_CHEST = frozenset({
    "HEAD", "BRAIN", "SKULL", "SINUS", "ORBIT", "EAR", "JAW", "FACE", "PELVIS", "HIP", "LEG", "KNEE", "ANKLE",
    "FOOT", "ARM", "ELBOW", "HAND", "WRIST", "FEMUR", "TIBIA",
})  # fmt: skip


@dataclass(frozen=True)
class _Member:
    header: Header
    slice: Slice


class _Refused(Exception):
    """Signal that a stack cannot become a Series; the message is the reason."""


def assemble(headers: Iterable[Header], rules: PairingRules | None = None) -> Assembled:
    """Sort the slices of some instances into stacks.

    Geometry decides: slices that are evenly spaced and of which none repeats are one stack, whatever the scanner
    counts as an acquisition. What differs in orientation, matrix, pixel spacing, kernel or phase is never mixed. Where
    positions repeat or slices are missing, `SPLIT_BY` says what may tell stacks apart. Order of arrival, file names
    and instance numbers do not matter.

    Parameters
    ----------
    headers : iterable of Header
        Of one study or of several; the same instance twice counts once.
    rules : PairingRules, optional
        The site's words for the phases.

    Returns
    -------
    Assembled
        Stacks whose slices are evenly spaced along row x column, ascending; and what was refused, and why:
        missing or uneven slices, repeated positions, gantry tilt, less than 20 slices or 100 mm, no geometry.
    """
    rules = rules or PairingRules()
    by_series: dict[tuple[str, str], dict[str, Header]] = defaultdict(dict)
    for header in headers:
        by_series[header.study_instance_uid, header.series_instance_uid][header.sop_instance_uid] = header
    series: list[Series] = []
    refused: list[Refusal] = []
    for (_, uid), found in sorted(by_series.items()):
        members = [found[key] for key in sorted(found)]
        odd = _unusable(members)
        refused += [Refusal(uid, reason) for reason in odd]
        stacks = _stacks([_Member(h, s) for h in members for s in h.slices], rules)
        reasons: list[str] = []
        for stack in stacks:
            try:
                one = _series(stack, rules)
                series.append(replace(one, notes=(*one.notes, *(f"Left out: {o}." for o in odd))))
            except _Refused as error:
                reasons.append(f"{_differs(stack, stacks)}{error}")
        refused += [Refusal(uid, reason) for reason in _grouped(reasons)]
    return Assembled(tuple(series), tuple(refused))


def _grouped(reasons: list[str]) -> list[str]:
    """Return a few sentences that sum up many."""
    if len(reasons) <= MOST_REASONS:
        return reasons
    return [*reasons[:MOST_REASONS], f"and {len(reasons) - MOST_REASONS} more parts of it, likewise refused"]


def with_assigned(assembled: Assembled, phases: Mapping[str, str]) -> Assembled:
    """Apply an operator's choice by Series Instance UID: a phase, or "none" for a series to leave out of pairs."""
    series = []
    for one in assembled.series:
        phase = phases.get(one.series_instance_uid)
        if phase in ("inspiration", "expiration"):
            one = replace(one, phase=cast(Phase, phase), evidence="assigned by an operator")
        if phase != "none":
            series.append(one)
    return replace(assembled, series=tuple(series))


def _unusable(headers: Sequence[Header]) -> list[str]:
    """Return which instances of CT series cannot be used, and why; other series are not mentioned.

    An instance without geometry is reported; whether a slice is then missing follows from the other positions.
    """
    broken = sorted({h.ignored for h in headers if h.ignored.startswith("no ")})
    if broken:
        more = f" (and {len(broken) - 1} more like it)" if len(broken) > 1 else ""
        return [broken[0] + more]
    if any(h.slices for h in headers):
        return []
    return sorted({h.ignored for h in headers if h.ignored not in ("not CT", "our own result")})


#: What tells stacks apart where positions repeat or slices are missing, in the order in which it is tried.
SPLIT_BY: tuple[Callable[[_Member], object], ...] = (
    lambda m: m.slice.acquisition[ACQUISITION.index("temporal position")],
    lambda m: m.slice.acquisition[ACQUISITION.index("acquisition")],
    lambda m: m.slice.acquisition[ACQUISITION.index("image type")],
    lambda m: m.header.texts,
    lambda m: m.slice.thickness,
)
#: A partition into more parts than this is not used.
MOST_PARTS = 64
#: How many refused parts of one series get a sentence of their own.
MOST_REASONS = 3


def _stacks(members: Sequence[_Member], rules: PairingRules) -> list[list[_Member]]:
    """Group slices that may form one stack: same kernel, phase, matrix, and (but for rounding) orientation, spacing."""
    exact: dict[tuple[object, ...], list[_Member]] = defaultdict(list)
    named = _named_phases(members, rules)
    for m in sorted(members, key=lambda m: (m.slice.orientation, m.slice.spacing, m.slice.position, _key(m))):
        kernel, percent = (m.slice.acquisition[ACQUISITION.index(n)] for n in ("kernel", "respiratory phase"))
        said = m.header.phase_code, named.get(m.header.texts, "")
        exact[(kernel, percent, m.slice.rows, m.slice.columns, *said)].append(m)
    stacks: list[list[_Member]] = []
    for _, group in sorted(exact.items(), key=lambda item: tuple(map(str, item[0]))):
        own: list[list[_Member]] = []
        for m in group:
            near = (s for s in own if _close(s[0].slice, m.slice))
            stack = next(near, None)
            if stack is None:
                own.append([m])
            else:
                stack.append(m)
        for stack in own:
            stacks += _parted(stack, SPLIT_BY, rules)
    return stacks


def _named_phases(members: Sequence[_Member], rules: PairingRules) -> dict[tuple[str, ...], str]:
    """Return the phase that each slice's texts name, where a series holds both."""
    texts = {m.header.texts for m in members}
    found: dict[tuple[str, ...], str] = {one: phase_of("", None, one, rules)[0] or "" for one in texts}
    return found if {"inspiration", "expiration"} <= set(found.values()) else {}


def _parted(
    stack: list[_Member], keys: Sequence[Callable[[_Member], object]], rules: PairingRules
) -> list[list[_Member]]:
    """Return the partition that leaves most slices in whole stacks; of equals, the coarsest."""
    if len(stack) < MIN_SLICES or (_whole(stack, rules) and not _two_scans(stack, rules)):
        return [stack]
    options = [] if _two_scans(stack, rules) else [[stack]]
    for n, key in enumerate(keys):
        parts = _by(key, stack)
        if 1 < len(parts) <= MOST_PARTS:
            others = (*keys[:n], *keys[n + 1 :])
            options.append([p for part in parts for p in _parted(part, others, rules)])
    whole = [sum(len(p) for p in option if _whole(p, rules)) for option in options]
    best = max(range(len(options)), key=lambda n: (whole[n], -len(options[n]), -n))
    return options[best]


def _by(key: Callable[[_Member], object], stack: Sequence[_Member]) -> list[list[_Member]]:
    parts: dict[object, list[_Member]] = defaultdict(list)
    for m in stack:
        parts[key(m)].append(m)
    return [parts[k] for k in sorted(parts, key=str)]


def _whole(stack: list[_Member], rules: PairingRules) -> bool:
    try:
        _series(stack, rules)
    except _Refused:
        return False
    return True


def _two_scans(stack: list[_Member], rules: PairingRules) -> bool:
    """Return whether a stack is two interleaved acquisitions, each a whole stack: two breath-holds, not one."""
    parts = _by(SPLIT_BY[1], stack)
    if len(parts) != 2 or not all(len(p) >= MIN_SLICES and _whole(p, rules) for p in parts):
        return False
    (low, high), (start, end) = ((float(a.min()), float(a.max())) for a in (_along(p)[0] for p in parts))
    return min(high, end) - max(low, start) > 0


def _key(m: _Member) -> tuple[str, int]:
    return m.slice.sop_instance_uid, m.slice.frame


def _close(a: Slice, b: Slice) -> bool:
    return bool(
        np.allclose(a.orientation, b.orientation, rtol=0, atol=SAME)
        and np.allclose(a.spacing, b.spacing, rtol=0, atol=SAME)
    )


def _along(stack: Sequence[_Member]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where each slice lies along row x column (n,), and in the plane (n, 2) (mm)."""
    row, column = np.reshape(stack[0].slice.orientation, (2, 3)).astype(np.float64)
    positions = np.array([m.slice.position for m in stack], dtype=np.float64)
    return positions @ np.cross(row, column), positions @ np.column_stack([row, column])


def _series(stack: list[_Member], rules: PairingRules) -> Series:
    """Return the stack as a Series.

    Raises
    ------
    _Refused
        With the reason.
    """
    along, plane = _along(stack)
    order = np.argsort(along, kind="stable")
    stack = [stack[n] for n in order]
    along, plane = along[order], plane[order]
    _check_instances(stack)
    _check_enough(stack, along)
    _check_tilt(stack, along, plane)
    _check_people(stack)
    gap, off = _check_even(stack, along)
    first = stack[0].header
    lie, how = lie_of(first.patient_position, first.texts)
    uneven = f"Slices lie up to {off:.2f} mm off their even spacing of {_mm(gap)} mm."
    percent = stack[0].slice.acquisition[ACQUISITION.index("respiratory phase")]
    phase, evidence = phase_of(first.phase_code, _float(percent, first.phase_percent), first.texts, rules)
    return Series(
        first.series_instance_uid, first.study_instance_uid, tuple(m.slice for m in stack),
        phase, evidence, gap,
        description=first.texts[0] if first.texts else "",
        kernel=stack[0].slice.acquisition[ACQUISITION.index("kernel")],
        contrast=next((m.header.contrast for m in stack if m.header.contrast), ""),
        acquired=min(m.header.acquired for m in stack),
        patient_position=first.patient_position,
        people=tuple(dict.fromkeys(m.header.person for m in stack)),
        lie=lie,
        notes=(*([uneven] if off > TOLD_MM else []), *([how] if how else [])),
        frame_of_reference=first.frame_of_reference,
        device=first.device,
        derived=stack[0].slice.acquisition[ACQUISITION.index("image type")].upper().startswith("DERIVED"),
    )  # fmt: skip


def _float(text: str, otherwise: float | None) -> float | None:
    try:
        return float(text)
    except ValueError:
        return otherwise


def _check_instances(stack: Sequence[_Member]) -> None:
    """Refuse several multi-frame instances: a Segmentation needs single slices or one multi-frame instance."""
    uids = {m.header.sop_instance_uid for m in stack}
    if len(uids) > 1 and any(len(m.header.slices) > 1 for m in stack):
        raise _Refused(f"a stack over {len(uids)} multi-frame instances is not supported")


def _check_people(stack: Sequence[_Member]) -> None:
    people = list(dict.fromkeys(m.header.person for m in stack))
    for one in people[1:]:
        if difference := two_people(people[0], one):
            raise _Refused(f"its slices are of two patients: {difference}")


def _check_enough(stack: Sequence[_Member], along: NDArray[np.float64]) -> None:
    part = stack[0].header.body_part.upper()
    if part in NOT_CHEST:
        raise _Refused(f"not a chest: body part {part}")
    if len(stack) < MIN_SLICES:
        raise _Refused(f"{len(stack)} slice{'s' * (len(stack) > 1)}: fewer than {MIN_SLICES} are no chest CT")
    if along[-1] - along[0] < MIN_COVERAGE_MM:
        raise _Refused(
            f"{along[-1] - along[0]:.0f} mm covered: less than {MIN_COVERAGE_MM:.0f} mm is no chest CT"
        )


def _check_tilt(stack: Sequence[_Member], along: NDArray[np.float64], plane: NDArray[np.float64]) -> None:
    """Refuse slices that are not stacked along their own normal, or do not lie as the gantry did."""
    drift = (plane[-1] - plane[0]) / (along[-1] - along[0])
    angle = float(np.degrees(np.arctan(np.linalg.norm(drift))))
    if angle > MAX_TILT_DEGREES:
        raise _Refused(f"gantry tilt of {angle:.1f}°: the slices are stacked aslant, not along their normal")
    off = np.linalg.norm(plane - plane[0] - np.outer(along - along[0], drift), axis=1)
    worst = int(np.argmax(off))
    if off[worst] > min(stack[0].slice.spacing) / 2:
        raise _Refused(f"the slice at {_place(stack[worst])} is shifted {off[worst]:.1f} mm in its plane")
    row, column = np.reshape(stack[0].slice.orientation, (2, 3))
    lean = float(np.degrees(np.arccos(min(1.0, abs(float(np.cross(row, column)[2]))))))
    tilt = abs(stack[0].header.gantry_tilt)
    if 0.5 < tilt < 45 and abs(tilt - lean) > 1.0:
        raise _Refused(f"gantry tilt of {tilt:.1f}°, but the slices are described as leaning {lean:.1f}°")


def _check_even(stack: Sequence[_Member], along: NDArray[np.float64]) -> tuple[float, float]:
    """Return the slice spacing and how far the worst slice lies off the even line (mm).

    Raises
    ------
    _Refused
        Where positions repeat, slices are missing, or one lies further off than `UNEVEN_MM` and its like allow.
    """
    gaps = np.diff(along)
    repeated = int((gaps < SAME_PLACE_MM).sum())
    if repeated:
        where = _place(stack[int(np.argmax(gaps < SAME_PLACE_MM))])
        raise _Refused(
            f"{repeated} slice positions repeat (first at {where}) and nothing tells the slices apart"
        )
    numbers = np.arange(len(along))
    slope, start = np.polyfit(numbers, along, 1)
    off = float(np.abs(along - start - slope * numbers).max())
    expected = float(np.median(gaps))
    even = float((along[-1] - along[0]) / (len(along) - 1))
    whole = bool(np.allclose(along, np.rint(along), atol=1e-6))
    if off <= min(ROUNDED_MM if whole else UNEVEN_MM, UNEVEN_SHARE * even):
        return (even if off <= TOLD_MM else float(slope)), off
    for (a, _), gap in zip(pairwise(stack), gaps, strict=True):
        if gap > 1.5 * expected:
            raise _Refused(f"slice gap {_mm(gap)} mm after {_place(a)}, expected {_mm(expected)}")
    worst = int(np.argmax(np.abs(gaps - expected)))
    raise _Refused(
        f"uneven slices: gap {_mm(gaps[worst])} mm after {_place(stack[worst])}, expected {_mm(even)}"
    )


def _place(m: _Member) -> str:
    return f"z={m.slice.position[2]:g}"


def _mm(value: float) -> str:
    """Format a length with one to three decimals: 5.0, 0.625."""
    text = f"{value:.3f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def _differs(stack: Sequence[_Member], stacks: Sequence[Sequence[_Member]]) -> str:
    """Return what tells this stack from the others of its series: "acquisition 2, kernel B70f: "."""
    if len(stacks) < 2:
        return ""
    names = []
    for n, name in enumerate(ACQUISITION):
        own = {m.slice.acquisition[n] for m in stack}
        others = {m.slice.acquisition[n] for s in stacks for m in s}
        if len(own) == 1 < len(others):
            names.append(f"{name} {own.pop() or 'none'}")
    return f"{', '.join(names)}: " if names else ""
