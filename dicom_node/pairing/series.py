"""Slices that may be one stack -> a Series in the order of space, or why they are none (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..dicom.attributes import named
from ..model import PairingRules, Phase, Series
from .members import Member, NoStack, along, place
from .people import two_people
from .phase_names import phase_of, share_of_cycle
from .positions import lie_of

#: A stack with fewer slices, or covering less of the patient, is not a chest CT.
MIN_SLICES = 20
MIN_COVERAGE_MM = 100.0
#: A stack with at least this many slices, but fewer than `MIN_SLICES`, may be one of which images are still to come;
#: fewer are a test of the contrast or a page of the console.
BEGUN_SLICES = 5
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

#: Body Part Examined values that can hold no lung.
NOT_CHEST = frozenset({
    "HEAD", "BRAIN", "SKULL", "SINUS", "ORBIT", "EAR", "JAW", "FACE", "PELVIS", "HIP", "LEG", "KNEE", "ANKLE",
    "FOOT", "ARM", "ELBOW", "HAND", "WRIST", "FEMUR", "TIBIA",
})  # fmt: skip


def series_of(stack: list[Member], rules: PairingRules) -> Series:
    """Return the stack as a Series.

    Raises
    ------
    NoStack
        With the reason.
    """
    heights, plane = along(stack)
    order = np.argsort(heights, kind="stable")
    stack = [stack[n] for n in order]
    heights, plane = heights[order], plane[order]
    _check_instances(stack)
    _check_enough(stack, heights)
    _check_tilt(stack, heights, plane)
    _check_people(stack)
    gap, off = _check_even(stack, heights)
    first = stack[0].header
    phase, evidence = named_phase(stack, rules)
    lie, how = lie_of(first.patient_position, first.texts)
    uneven = f"Slices lie up to {off:.2f} mm off their even spacing of {_mm(gap)} mm."
    return Series(
        first.series_instance_uid, first.study_instance_uid, tuple(m.slice for m in stack),
        phase, evidence, gap,
        description=first.texts[0] if first.texts else "",
        kernel=next((kernel for m in stack if (kernel := m.acquired_as("kernel"))), ""),
        contrast=next((m.header.contrast for m in stack if m.header.contrast), ""),
        acquired=min(m.header.acquired for m in stack),
        patient_position=first.patient_position,
        people=tuple(dict.fromkeys(m.header.person for m in stack)),
        lie=lie,
        notes=tuple(dict.fromkeys((
            *([uneven] if off > TOLD_MM else []), *([how] if how else []),
            *(note for m in stack for note in m.header.notes),
        ))),
        frame_of_reference=first.frame_of_reference,
        device=first.device,
        cycle=share_of_cycle(_percent(stack), first.texts),
        derived=stack[0].acquired_as("image type").upper().startswith("DERIVED"),
    )  # fmt: skip


def named_phase(stack: Sequence[Member], rules: PairingRules) -> tuple[Phase | None, str]:
    """Return the phase that the headers of a stack name, and what says so."""
    first = stack[0].header
    return phase_of(first.phase_code, _percent(stack), first.texts, rules)


def _percent(stack: Sequence[Member]) -> float | None:
    given = next((text for m in stack if (text := m.acquired_as("respiratory phase"))), "")
    return _float(given, stack[0].header.phase_percent)


def _float(text: str, otherwise: float | None) -> float | None:
    try:
        return float(text)
    except ValueError:
        return otherwise


def _check_instances(stack: Sequence[Member]) -> None:
    """Refuse several multi-frame instances: a Segmentation needs single slices or one multi-frame instance."""
    uids = {m.header.sop_instance_uid for m in stack}
    if len(uids) > 1 and any(len(m.header.slices) > 1 for m in stack):
        raise NoStack(f"a stack over {len(uids)} multi-frame instances is not supported")


def _check_people(stack: Sequence[Member]) -> None:
    people = list(dict.fromkeys(m.header.person for m in stack))
    for one in people[1:]:
        if difference := two_people(people[0], one):
            raise NoStack(f"its slices are of two patients: {difference}")


def _check_enough(stack: Sequence[Member], heights: NDArray[np.float64]) -> None:
    part = stack[0].header.body_part.upper()
    if part in NOT_CHEST:
        raise NoStack(f"not a chest: {named('BodyPartExamined')} is {part}")
    if len(stack) < MIN_SLICES:
        few = f"{len(stack)} slice{'s' * (len(stack) > 1)}: fewer than {MIN_SLICES} are no chest CT"
        raise NoStack(few, incomplete=len(stack) >= BEGUN_SLICES)
    if heights[-1] - heights[0] < MIN_COVERAGE_MM:
        covered = heights[-1] - heights[0]
        short = f"{covered:.4g} mm covered: less than {MIN_COVERAGE_MM:.0f} mm is no chest CT"
        raise NoStack(short, incomplete=covered > 0)


def _check_tilt(stack: Sequence[Member], heights: NDArray[np.float64], plane: NDArray[np.float64]) -> None:
    """Refuse slices that are not stacked along their own normal, or do not lie as the gantry did."""
    drift = (plane[-1] - plane[0]) / (heights[-1] - heights[0])
    angle = float(np.degrees(np.arctan(np.linalg.norm(drift))))
    if angle > MAX_TILT_DEGREES:
        raise NoStack(f"gantry tilt of {angle:.1f}°: the slices are stacked aslant, not along their normal")
    off = np.linalg.norm(plane - plane[0] - np.outer(heights - heights[0], drift), axis=1)
    worst = int(np.argmax(off))
    if off[worst] > min(stack[0].slice.spacing) / 2:
        raise NoStack(f"the slice at {place(stack[worst])} is shifted {off[worst]:.1f} mm in its plane")
    row, column = np.reshape(stack[0].slice.orientation, (2, 3))
    lean = float(np.degrees(np.arccos(min(1.0, abs(float(np.cross(row, column)[2]))))))
    tilt = abs(stack[0].header.gantry_tilt)
    if 0.5 < tilt < 45 and abs(tilt - lean) > 1.0:
        raise NoStack(f"gantry tilt of {tilt:.1f}°, but the slices are described as leaning {lean:.1f}°")


def _check_even(stack: Sequence[Member], heights: NDArray[np.float64]) -> tuple[float, float]:
    """Return the slice spacing and how far the worst slice lies off the even line (mm).

    Raises
    ------
    NoStack
        Where positions repeat, slices are missing, or one lies further off than `UNEVEN_MM` and its like allow.
    """
    gaps = np.diff(heights)
    repeated = int((gaps < SAME_PLACE_MM).sum())
    if repeated:
        where = place(stack[int(np.argmax(gaps < SAME_PLACE_MM))])
        raise NoStack(
            f"{repeated} slice positions repeat (first at {where}; {named('ImagePositionPatient')}) and nothing tells"
            " the slices apart"
        )
    numbers = np.arange(len(heights))
    slope, start = np.polyfit(numbers, heights, 1)
    off = float(np.abs(heights - start - slope * numbers).max())
    expected = float(np.median(gaps))
    even = float((heights[-1] - heights[0]) / (len(heights) - 1))
    whole = bool(np.allclose(heights, np.rint(heights), atol=1e-6))
    if off <= min(ROUNDED_MM if whole else UNEVEN_MM, UNEVEN_SHARE * even):
        return (even if off <= TOLD_MM else float(slope)), off
    for (a, _), gap in zip(pairwise(stack), gaps, strict=True):
        if gap > 1.5 * expected:
            missing = f"slice gap {_mm(gap)} mm after {place(a)}, expected {_mm(expected)}"
            raise NoStack(missing, incomplete=True)
    worst = int(np.argmax(np.abs(gaps - expected)))
    raise NoStack(
        f"uneven slices: gap {_mm(gaps[worst])} mm after {place(stack[worst])}, expected {_mm(even)}"
    )


def _mm(value: float) -> str:
    """Format a length with one to three decimals: 5.0, 0.625."""
    text = f"{value:.3f}".rstrip("0")
    return text + "0" if text.endswith(".") else text
