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
from .phase_names import phase_of

#: Fewer slices, or less of the patient, is no chest CT.
MIN_SLICES = 20
MIN_COVERAGE_MM = 100.0
#: Closer than this, two slices are at one place.
SAME_PLACE_MM = 0.01
#: Slices may lie this far off the even line: positions are often rounded to 0.1 mm, the ends of the line too.
UNEVEN_MM = 0.11
#: Beyond this the stack is sheared, not a box.
MAX_TILT_DEGREES = 0.2
#: Two orientations (direction cosines), or two pixel spacings (mm), this close are one.
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
    """A stack that is no Series; carries the sentence."""


def assemble(headers: Iterable[Header], rules: PairingRules | None = None) -> Assembled:
    """Sort the slices of some instances into stacks.

    One Series Instance UID may hold several stacks: what differs in orientation, matrix, pixel spacing or any
    of `model.ACQUISITION` is never mixed. Order of arrival, file names and instance numbers do not matter.

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
        if reasons := _unusable(members):
            refused += [Refusal(uid, reason) for reason in reasons]
            continue
        stacks = _stacks([_Member(h, s) for h in members for s in h.slices])
        for stack in stacks:
            try:
                series.append(_series(stack, rules))
            except _Refused as error:
                refused.append(Refusal(uid, f"{_differs(stack, stacks)}{error}"))
    return Assembled(tuple(series), tuple(refused))


def with_assigned(assembled: Assembled, phases: Mapping[str, str]) -> Assembled:
    """The stacks as an operator assigned them, by Series Instance UID: a phase, or "none" for no part of a pair."""
    series = []
    for one in assembled.series:
        phase = phases.get(one.series_instance_uid)
        if phase in ("inspiration", "expiration"):
            one = replace(one, phase=cast(Phase, phase), evidence="assigned by an operator")
        if phase != "none":
            series.append(one)
    return replace(assembled, series=tuple(series))


def _unusable(headers: Sequence[Header]) -> list[str]:
    """Why no instance of a CT series can be used; other series are no business of ours and give no reason."""
    broken = sorted({h.ignored for h in headers if h.ignored.startswith("no ")})
    if broken:
        return broken[:1]
    if any(h.slices for h in headers):
        return []
    return sorted({h.ignored for h in headers if h.ignored not in ("not CT", "our own result")})


def _stacks(members: Sequence[_Member]) -> list[list[_Member]]:
    """Slices that may form one stack: one acquisition and matrix; orientation and spacing within rounding."""
    exact: dict[tuple[object, ...], list[_Member]] = defaultdict(list)
    for m in sorted(members, key=lambda m: (m.slice.orientation, m.slice.spacing, m.slice.position, _key(m))):
        exact[(*m.slice.acquisition, m.slice.rows, m.slice.columns, m.header.phase_code)].append(m)
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
            stacks += _split_repeated(stack)
    return stacks


def _key(m: _Member) -> tuple[str, int]:
    return m.slice.sop_instance_uid, m.slice.frame


def _close(a: Slice, b: Slice) -> bool:
    return bool(
        np.allclose(a.orientation, b.orientation, rtol=0, atol=SAME)
        and np.allclose(a.spacing, b.spacing, rtol=0, atol=SAME)
    )


SPLIT_BY: tuple[Callable[[_Member], object], ...] = (
    lambda m: m.header.texts,
    lambda m: m.slice.thickness,
)


def _split_repeated(stack: list[_Member]) -> list[list[_Member]]:
    """Where positions repeat, the texts (comments on the phase) or the thickness may tell stacks apart."""
    if not _repeats(stack):
        return [stack]
    for by in SPLIT_BY:
        parts: dict[object, list[_Member]] = defaultdict(list)
        for m in stack:
            parts[by(m)].append(m)
        if len(parts) > 1 and not any(_repeats(p) for p in parts.values()):
            return [parts[k] for k in sorted(parts, key=str)]
    return [stack]


def _repeats(stack: Sequence[_Member]) -> bool:
    heights = np.sort(_along(stack)[0])
    return bool((np.diff(heights) < SAME_PLACE_MM).any())


def _along(stack: Sequence[_Member]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each slice lies along row x column (n,), and in the plane (n, 2) mm."""
    row, column = np.reshape(stack[0].slice.orientation, (2, 3)).astype(np.float64)
    positions = np.array([m.slice.position for m in stack], dtype=np.float64)
    return positions @ np.cross(row, column), positions @ np.column_stack([row, column])


def _series(stack: list[_Member], rules: PairingRules) -> Series:
    """The stack as a Series.

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
    gap = _check_even(stack, along)
    first = stack[0].header
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
        derived=stack[0].slice.acquisition[ACQUISITION.index("image type")].upper().startswith("DERIVED"),
    )  # fmt: skip


def _float(text: str, otherwise: float | None) -> float | None:
    try:
        return float(text)
    except ValueError:
        return otherwise


def _check_instances(stack: Sequence[_Member]) -> None:
    """A Segmentation is made on many single slices or on one multi-frame instance, not on several."""
    uids = {m.header.sop_instance_uid for m in stack}
    if len(uids) > 1 and any(len(m.header.slices) > 1 for m in stack):
        raise _Refused(f"a stack over {len(uids)} multi-frame instances is not supported")


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
    """Slices must be stacked along their own normal, and lie as the gantry did."""
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


def _check_even(stack: Sequence[_Member], along: NDArray[np.float64]) -> float:
    """mm between slices, where they are even.

    Raises
    ------
    _Refused
        Where positions repeat, slices are missing, or one lies off the even line by more than `UNEVEN_MM`.
    """
    gaps = np.diff(along)
    repeated = int((gaps < SAME_PLACE_MM).sum())
    if repeated:
        where = _place(stack[int(np.argmax(gaps < SAME_PLACE_MM))])
        raise _Refused(
            f"{repeated} slice positions repeat (first at {where}) and nothing tells the slices apart"
        )
    expected = float(np.median(gaps))
    for (a, _), gap in zip(pairwise(stack), gaps, strict=True):
        if gap > 1.5 * expected:
            raise _Refused(f"slice gap {_mm(gap)} mm after {_place(a)}, expected {_mm(expected)}")
    even = float((along[-1] - along[0]) / (len(along) - 1))
    off = np.abs(along - along[0] - even * np.arange(len(along)))
    if off.max() > UNEVEN_MM:
        worst = int(np.argmax(np.abs(gaps - expected)))
        raise _Refused(
            f"uneven slices: gap {_mm(gaps[worst])} mm after {_place(stack[worst])}, expected {_mm(even)}"
        )
    return even


def _place(m: _Member) -> str:
    return f"z={m.slice.position[2]:g}"


def _mm(value: float) -> str:
    """At least one decimal, at most three: 5.0, 0.625."""
    text = f"{value:.3f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def _differs(stack: Sequence[_Member], stacks: Sequence[Sequence[_Member]]) -> str:
    """What names this stack among the others of its series: "acquisition 2, kernel B70f: "."""
    if len(stacks) < 2:
        return ""
    own = stack[0].slice.acquisition
    others = [s[0].slice.acquisition for s in stacks]
    names = [
        f"{name} {value or 'none'}"
        for name, value, all_values in zip(ACQUISITION, own, zip(*others, strict=True), strict=True)
        if len(set(all_values)) > 1
    ]
    return f"{', '.join(names)}: " if names else ""
