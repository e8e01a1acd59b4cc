"""V and Q of every voxel -> its class: normal, dead space, shunt or matched defect."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
from scipy import ndimage

from ..parameters import Parameters
from ..volume import Float, Labels, Mask


class VQClass(IntEnum):
    """Name the class of a voxel; 0 is lung (or anything else) that was not classified."""

    UNCLASSIFIED = 0
    NORMAL = 1
    DEAD_SPACE = 2
    SHUNT = 3
    MATCHED_DEFECT = 4


#: The class by (V is low, Q is low).
CLASS_OF = np.array(
    [[VQClass.NORMAL, VQClass.DEAD_SPACE], [VQClass.SHUNT, VQClass.MATCHED_DEFECT]], dtype=np.uint8
)
#: Percentile of ``normalisation = "percentile"``.
PERCENTILE = 90.0
#: What V and Q are divided by, in words for a report, by ``normalisation``.
NORMALISED_BY: Mapping[str, str] = {
    "mean": "mean over both lungs",
    "percentile": "90th percentile",
    "reference": "reference value",
}


def normalise(values: Float, mask: Mask, by: float | None = None) -> Float:
    """Divide ``values`` by their mean over ``mask``, or by ``by``; 0 outside the mask.

    Parameters
    ----------
    values, mask : (k, j, i)
        A map and where it is valid.
    by : float, optional
        What to divide by, in the unit of the map.

    Returns
    -------
    (k, j, i) float32
        Dimensionless.
    """
    inside = values[mask]
    out = np.zeros_like(values)
    if inside.size:
        out[mask] = inside / (inside.mean(dtype=np.float64) if by is None else by)
    return out


def without_gravity(values: Float, mask: Mask, height: Float) -> Float:
    """Divide ``values`` by their own log-linear regression on height, scaled to 1 at the mean height.

    The regression is of log(values) on height, over the voxels of ``mask`` whose value is more than 0.

    Parameters
    ----------
    values, mask : (k, j, i)
    height : (k, j, i) float32
        mm above the floor, from any zero.
    """
    fit = mask & (values > 0)
    if not fit.any() or np.ptp(height[fit]) == 0:
        return values
    h, logs = height[fit].astype(np.float64), np.log(values[fit].astype(np.float64))
    h_mean = h.mean()
    slope = float(((h - h_mean) * logs).sum() / ((h - h_mean) ** 2).sum())
    return np.where(mask, values / np.exp(slope * (height - h_mean)), 0).astype(np.float32)


def normalised(
    maps: Mapping[str, Float], mask: Mask, parameters: Parameters, height: Float | None = None
) -> tuple[Float, Float]:
    """Return V and Q as compared with ``parameters.low``: normalised, and corrected for gravity where asked for.

    Parameters
    ----------
    maps : mapping of str to (k, j, i) float32
        ``"V"`` and ``"Q"``.
    mask : (k, j, i) bool
    parameters : Parameters
    height : (k, j, i) float32, optional
        mm above the floor; needed where ``parameters.gravity``.
    """
    references = {"V": parameters.reference_v, "Q": parameters.reference_q}
    out = []
    for name, reference in references.items():
        values = maps[name]
        if parameters.gravity and height is not None:
            values = without_gravity(values, mask, height)
        by = None
        if parameters.normalisation == "percentile" and mask.any():
            by = float(np.percentile(values[mask], PERCENTILE))
        elif parameters.normalisation == "reference":
            by = reference
        out.append(normalise(values, mask, by))
    return out[0], out[1]


def classify(v_n: Float, q_n: Float, mask: Mask, voxel_ml: float, low: float, min_defect_ml: float) -> Labels:
    """Return the class of every voxel from normalised V and Q (research use; Q is a surrogate of perfusion).

    Parameters
    ----------
    v_n, q_n : (k, j, i) float32
        V and Q, `normalised`.
    mask : (k, j, i) bool
        The classified lung.
    voxel_ml : float
        Volume of a voxel, mL.
    low : float
        A value below this is low (0.60, the 129Xe convention).
    min_defect_ml : float
        Connected abnormal regions (any abnormal class, face neighbours) smaller than this become normal.

    Returns
    -------
    (k, j, i) uint8
        Values of `VQClass`.
    """
    classes = CLASS_OF[(v_n < low).astype(np.uint8), (q_n < low).astype(np.uint8)]
    classes[~mask] = VQClass.UNCLASSIFIED
    components, n = ndimage.label(classes > VQClass.NORMAL)
    sizes = np.bincount(components.ravel(), minlength=n + 1) * voxel_ml
    small = sizes < min_defect_ml
    small[0] = False
    classes[small[components]] = VQClass.NORMAL
    return classes
