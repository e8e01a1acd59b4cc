"""The air of one lung -> the lung: its vessels, its fissures and disease at the pleura belong to it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..volume import Float, Labels, Mask
from .body import BONE_HU, PADDING_HU
from .morphology import (
    Spacing,
    bounding_box,
    closing,
    dilate,
    fill_holes,
    fill_slice_holes,
    grow_box,
    opening,
    pieces,
)
from .sides import Lung

CLOSE_MM = 8.0
CLOSE_HILUM_MM = 4.0
DENT_MM = 16.0
HILUM_MM = 18.0
WALL_MM = 2.5
OPEN_MM = 2.0
PIECE_ML = 5.0
HOLE_MM2 = 100.0


def restore(labels: Labels, lung: Lung, hu: Float, airways: Mask, barred: Mask, spacing: Spacing) -> None:
    """Close one lung in place: add vessels, fissures, nodules and pleural consolidation; little at the hilum.

    Parameters
    ----------
    labels : (z, y, x) uint8
        Values of `Lung`: the air of the lungs.
    lung : Lung
        The lung to close.
    hu : (z, y, x) float32
    airways, barred : (z, y, x) bool
        Airways, which show where the hilum is; voxels that are never lung: airways with their walls, gas.
    spacing : (3,) float
        mm along z, y, x.
    """
    box = bounding_box(labels == lung)
    if box is None:
        return
    box = grow_box(box, DENT_MM + 4, spacing, labels.shape)
    own, taken, hu, airways = labels[box] == lung, labels[box] > 0, hu[box], airways[box]
    smooth = fill_slice_holes(_pieces(opening(own, OPEN_MM, spacing), spacing), HOLE_MM2, spacing)
    near_hilum = dilate(airways, HILUM_MM, spacing)
    gentle, strong = closing(smooth, CLOSE_HILUM_MM, spacing), closing(smooth, CLOSE_MM, spacing)
    closed = np.where(near_hilum, gentle, strong) | _dents(smooth, lung, spacing)
    closed &= hu < BONE_HU
    closed = ndimage.gaussian_filter(fill_holes(closed).astype(np.float32), [1.5 / s for s in spacing]) > 0.5
    closed |= own & dilate(closed, WALL_MM, spacing)  # smoothing has cut the rim: lung density decides there
    closed &= ~barred[box]
    labels[box][own] = Lung.NONE
    labels[box][closed & ~(taken & ~own) & (hu > PADDING_HU)] = lung


def _dents(smooth: Mask, lung: Lung, spacing: Spacing) -> Mask:
    """Return deeper dents with lung on their inner side: disease at the chest wall, not the mediastinum."""
    inwards = slice(None, None, -1 if lung == Lung.RIGHT else 1)
    outer = np.logical_or.accumulate(smooth[:, :, inwards], axis=2)[:, :, inwards]
    return np.asarray(closing(smooth, DENT_MM, spacing) & outer)


def _pieces(mask: Mask, spacing: Spacing) -> Mask:
    """Return the pieces of a lung that are large enough, such as an apex behind a scar."""
    labels, sizes = pieces(mask)
    return np.asarray((sizes * float(np.prod(spacing)) / 1000 >= PIECE_ML)[labels] & mask)
