"""V and the lungs -> the slices where V of both lungs leaves its course at once, as after a breathing step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..volume import Float, Labels
from .findings import Finding, verdict_of

WINDOW_MM = 50.0
MIN_SHARE = 0.3  # share of a lung's largest slice below which a slice counts as its end
#: In fifteen twins of real CTs without a step 0.15 at most; a step that moves the fractions makes 0.96 and more
#: (docs/validation.md).
WARN, FAIL = 0.25, 0.7


@dataclass(frozen=True)
class Band:
    """Hold the slice where V of both lungs departs most from the slices around.

    Parameters
    ----------
    change : float
        Median V of the slice less that of the slices around, over the lung's mean; of the lung that departs less.
    slice_index : int
        On V's grid, from 0.
    lungs : int
        How many lungs were looked at.
    """

    change: float = 0.0
    slice_index: int = 0
    lungs: int = 2


def band(found: Band, place: str) -> Finding:
    """Judge whether V has a band across both lungs, from `v_band`; ``place`` says where that slice lies.

    With one lung alone it does not fail: there a defect may fill a slice.
    """
    both = found.lungs == 2
    of = "both lungs" if both else "the lung"
    words = f"V of {of} leaves its course by {abs(found.change):.0%} of its mean at most, at {place}"
    warn = abs(found.change) > WARN
    if warn:
        words += ": a breathing step makes such a band"
    limit = f"warn > {WARN:g}, fail > {FAIL:g}"
    verdict = verdict_of(both and abs(found.change) > FAIL, warn)
    return Finding("band of V", verdict, abs(found.change), "1", limit, words)


def v_band(v: Float, lungs: Labels, spacing: float) -> Band:
    """Find where V of all lungs departs most, in the same direction, from its running median over 50 mm.

    A defect lies in one lung and in a part of its slices; a step goes through both and through whole slices.

    Parameters
    ----------
    v : (k, j, i) float32
        NaN where V is not known.
    lungs : (k, j, i) uint8
        1 right, 2 left.
    spacing : float
        mm between slices.
    """
    width = 2 * round(WINDOW_MM / spacing / 2) + 1
    changes = []
    for lung in (1, 2):
        known = (lungs == lung) & np.isfinite(v)
        area = known.sum(axis=(1, 2))
        if not area.any():
            continue
        at = np.flatnonzero(area >= MIN_SHARE * area.max())
        course = np.array([np.median(v[k][known[k]]) for k in at])
        change = np.zeros(len(v))
        change[at] = (course - ndimage.median_filter(course, width, mode="nearest")) / v[known].mean()
        changes.append(change)
    if not changes:
        return Band()
    same = np.all(np.sign(changes) == np.sign(changes[0]), axis=0)
    least = np.where(same, np.min(np.abs(changes), axis=0), 0)
    k = int(np.argmax(least))
    return Band(float(np.sign(changes[0][k]) * least[k]), k, len(changes))
