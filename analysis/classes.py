"""V and Q of every voxel -> its class: normal, dead space, shunt or matched defect."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from scipy import ndimage

from .volume import Float, Labels, Mask


class VQClass(IntEnum):
    """What a piece of lung is; 0 is lung (or anything else) that was not classified."""

    UNCLASSIFIED = 0
    NORMAL = 1
    DEAD_SPACE = 2
    SHUNT = 3
    MATCHED_DEFECT = 4


#: The class by (V is low, Q is low).
CLASS_OF = np.array(
    [[VQClass.NORMAL, VQClass.DEAD_SPACE], [VQClass.SHUNT, VQClass.MATCHED_DEFECT]], dtype=np.uint8
)


def normalise(values: Float, mask: Mask) -> Float:
    """``values`` divided by their mean over ``mask``; 0 outside.

    Parameters
    ----------
    values, mask : (k, j, i)
        A map and where it is valid.

    Returns
    -------
    (k, j, i) float32
        Dimensionless; mean 1 over the mask.
    """
    inside = values[mask]
    if inside.size == 0:
        return np.zeros_like(values)
    out = np.zeros_like(values)
    out[mask] = inside / inside.mean(dtype=np.float64)
    return out


def classify(
    v_n: Float, q_n: Float, mask: Mask, voxel_ml: float, *, low: float, min_defect_ml: float
) -> Labels:
    """Class of every voxel from normalised V and Q (research use; Q is a surrogate of perfusion).

    Parameters
    ----------
    v_n, q_n : (k, j, i) float32
        V and Q over their own means.
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
