"""How firm a result is: against another threshold, and against the errors of what it is made from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..volume import Float, Labels, Mask
from ..vq.classes import VQClass, classify

#: Thresholds at which the sensitivity of the fractions is computed.
THRESHOLDS = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75)
#: Fractions of `measures.MEASURES` and the classes they count.
FRACTIONS: Mapping[str, tuple[VQClass, ...]] = {
    "dead_space": (VQClass.DEAD_SPACE,),
    "shunt": (VQClass.SHUNT,),
    "matched_defect": (VQClass.MATCHED_DEFECT,),
    "total_abnormal": (VQClass.DEAD_SPACE, VQClass.SHUNT, VQClass.MATCHED_DEFECT),
}

Masks = Mapping[str, Mask]
Percents = dict[str, dict[str, float]]


def percents(classes: Labels, regions: Masks) -> Percents:
    """Return every fraction in percent of the classified lung, by region; NaN where nothing is classified.

    Parameters
    ----------
    classes : (k, j, i) uint8
        Values of `VQClass`.
    regions : mapping of name to (k, j, i) bool
    """
    out = {}
    for region, inside in regions.items():
        counts = np.bincount(classes[inside], minlength=len(VQClass)).astype(np.float64)
        total = counts[1:].sum()
        out[region] = {
            name: 100 * float(counts[list(cs)].sum() / total) if total else float("nan")
            for name, cs in FRACTIONS.items()
        }
    return out


def sensitivity(
    v_n: Float, q_n: Float, mask: Mask, voxel_ml: float, min_defect_ml: float, regions: Masks
) -> dict[str, dict[str, tuple[float, ...]]]:
    """Return every fraction of every region at each of `THRESHOLDS`.

    Parameters
    ----------
    v_n, q_n : (k, j, i) float32
        Normalised V and Q.
    mask : (k, j, i) bool
        The classified lung.
    voxel_ml, min_defect_ml : float
        mL.
    regions : mapping of name to (k, j, i) bool
    """
    found = [percents(classify(v_n, q_n, mask, voxel_ml, low, min_defect_ml), regions) for low in THRESHOLDS]
    return {
        region: {name: tuple(at[region][name] for at in found) for name in FRACTIONS} for region in regions
    }


def borderline(
    classes: Labels, maps: tuple[Float, Float], sd: tuple[Float, Float], low: float, regions: Masks
) -> Percents:
    """Return the percent of every fraction whose V or Q lies within one standard uncertainty of the threshold.

    Parameters
    ----------
    classes : (k, j, i) uint8
        Values of `VQClass`.
    maps : ((k, j, i), (k, j, i)) float32
        Normalised V and Q.
    sd : ((k, j, i), (k, j, i)) float32
        Their standard uncertainties.
    low : float
    regions : mapping of name to (k, j, i) bool
    """
    near = np.logical_or(*(np.abs(a - low) < s for a, s in zip(maps, sd, strict=True)))
    known = all(np.isfinite(s).any() for s in sd)
    out: Percents = {}
    for region, inside in regions.items():
        out[region] = {}
        for name, members in FRACTIONS.items():
            of = inside & np.isin(classes, members)
            out[region][name] = 100 * float(near[of].mean()) if known and of.any() else float("nan")
    return out
