"""Lungs and HU -> lungs whose surface lies halfway between their own density there and soft tissue's.

One threshold for the whole chest cuts dense lung short: the blurred edge of dependent lung at -500 HU is halfway at
-230 HU, that of inflated lung at -850 HU at -405 HU (full width at half maximum, as for airway walls: Reinhardt 1997,
doi:10.1109/42.650870).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..volume import Float, Labels, Mask
from .morphology import Spacing, bounding_box, dilate, grow_box

DEEP_MM = 4.0  # depth beyond which the chest wall's blur is not seen
AROUND_MM = 8.0  # standard deviation of the Gaussian over which lung density is averaged
REACH_MM = 2.5
TISSUE_HU = 40.0
VESSEL_HU = -100.0  # what is denser is no lung; averaged as this
HALFWAY_HU = (-500.0, -150.0)


def fit_pleura(labels: Labels, hu: Float, barred: Mask, spacing: Spacing) -> None:
    """Move each lung's surface, in place, to where density is halfway.

    Voxels within `REACH_MM` that are nearer to the lung's density than to tissue's are added. Of the outermost voxels,
    those nearer to tissue's are taken away where all behind them is lung: what is dense at the pleura and further in,
    a vessel or consolidation, stays.

    Parameters
    ----------
    labels : (k, j, i) uint8
        Values of `lungs.Lung`.
    hu : (k, j, i) float32
    barred : (k, j, i) bool
        Voxels that are never lung: airways and their walls, everything outside the body.
    spacing : (3,) float
        mm along k, j, i.
    """
    for lung in np.unique(labels[labels > 0]).tolist():
        box = bounding_box(labels == lung)
        assert box is not None
        box = grow_box(box, 2 * REACH_MM, spacing, labels.shape)
        own = labels[box] == lung
        free = (labels[box] == 0) & ~barred[box]
        light = hu[box] < _halfway(own, hu[box], spacing)
        own |= dilate(own, REACH_MM, spacing) & free & light
        core = ndimage.binary_erosion(own)
        solid = ndimage.binary_dilation(core & ~light, np.ones((3, 3, 3), dtype=bool))
        wall = own & ~core & ~light & ~solid
        labels[box][own] = lung
        labels[box][wall] = 0


def _halfway(own: Mask, hu: Float, spacing: Spacing) -> Float:
    """Return the HU halfway from the lung's local density to soft tissue's."""
    deep = ndimage.distance_transform_edt(own, sampling=spacing) > DEEP_MM
    sigmas = [AROUND_MM / s for s in spacing]
    weight, values = (
        ndimage.gaussian_filter(a.astype(np.float32), sigmas, mode="constant", truncate=3.0)
        for a in (deep, np.where(deep, np.minimum(hu, VESSEL_HU), 0))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        local = np.where(weight > 1e-3, values / weight, -np.inf)
    return np.clip((local + TISSUE_HU) / 2, *HALFWAY_HU).astype(np.float32)
