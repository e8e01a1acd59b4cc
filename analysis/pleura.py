"""Lungs and HU -> lungs whose surface lies halfway between their own density there and soft tissue's.

One threshold for the whole chest cuts dense lung short: the blurred edge of dependent lung at -500 HU is halfway at
-230 HU, that of inflated lung at -850 HU at -405 HU (full width at half maximum, as for airway walls: Reinhardt 1997,
doi:10.1109/42.650870).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .morphology import Spacing, bounding_box, dilate, grow_box
from .volume import Float, Labels, Mask

DEEP_MM = 4.0  # from here inwards the chest wall's blur is not seen
AROUND_MM = 8.0  # standard deviation of the Gaussian over which lung density is averaged
REACH_MM = 2.5
TISSUE_HU = 40.0
VESSEL_HU = -100.0  # what is denser is no lung; averaged as this
HALFWAY_HU = (-500.0, -150.0)


def reach_pleura(labels: Labels, hu: Float, barred: Mask, spacing: Spacing) -> None:
    """Add to each lung, in place, the voxels within `REACH_MM` of it that are nearer to its density than to tissue's.

    Parameters
    ----------
    labels : (k, j, i) uint8
        Values of `lungs.Lung`.
    hu : (k, j, i) float32
    barred : (k, j, i) bool
        Never lung: airways and their walls, what lies outside the body.
    spacing : (3,) float
        mm along k, j, i.
    """
    for lung in np.unique(labels[labels > 0]).tolist():
        box = bounding_box(labels == lung)
        assert box is not None
        box = grow_box(box, 2 * REACH_MM, spacing, labels.shape)
        own = labels[box] == lung
        free = (labels[box] == 0) & ~barred[box]
        near = dilate(own, REACH_MM, spacing) & free
        labels[box][near & (hu[box] < _halfway(own, hu[box], spacing))] = lung


def _halfway(own: Mask, hu: Float, spacing: Spacing) -> Float:
    """HU halfway from the lung's local density to soft tissue's."""
    deep = ndimage.distance_transform_edt(own, sampling=spacing) > DEEP_MM
    sigmas = [AROUND_MM / s for s in spacing]
    weight, values = (
        ndimage.gaussian_filter(a.astype(np.float32), sigmas, mode="constant", truncate=3.0)
        for a in (deep, np.where(deep, np.minimum(hu, VESSEL_HU), 0))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        local = np.where(weight > 1e-3, values / weight, -np.inf)
    return np.clip((local + TISSUE_HU) / 2, *HALFWAY_HU).astype(np.float32)
