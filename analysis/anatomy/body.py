"""HU on (z up, y back, x left) -> the body, its midline, and what it encloses."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..volume import Float, Labels, Mask
from .morphology import Spacing, pieces

PADDING_HU = -1100  # less dense than any air: outside the reconstruction circle, or masked away
GAS_HU = -975  # lung is denser even in emphysema; bowel and room are not
TISSUE_HU = -300
ROOM_HU = -500
BONE_HU = 200
RIB_GAP_MM = 15.0


def soft_tissue(hu: Float) -> Mask:
    """Return the largest piece of soft tissue.

    Parameters
    ----------
    hu : (z, y, x) float32

    Returns
    -------
    (z, y, x) bool
        All False where the volume shows lung only (a masked crop).
    """
    labels, sizes = pieces(ndimage.binary_opening(hu > TISSUE_HU))
    if sizes.max() < 0.3 * float(((hu > GAS_HU) & (hu <= TISSUE_HU)).sum()):
        return np.zeros(hu.shape, dtype=np.bool_)
    return np.asarray((labels == int(sizes.argmax())) & (labels > 0))


def midline(body: Mask) -> float | None:
    """Return the x index of the body's midline; None unless most slices show it from flank to flank."""
    seen = body.any(axis=(1, 2))
    if not seen.any() or body[seen][:, :, [0, -1]].any(axis=(1, 2)).mean() > 0.2:
        return None
    return float(np.nonzero(body.any(axis=1))[1].mean())


def inside(hu: Float, body: Mask) -> Mask:
    """Return the body and what it encloses: voxels with body on three of four sides in the axial slice.

    Air counts by connected region in its slice, by majority: a lung cut by the field of view stays whole, and the
    room's air in the armpit goes with the room.
    """
    shown = hu > PADDING_HU
    if not body.any():
        background = float(hu[0, 0, 0])
        return np.asarray(shown & ~((hu == background) & (background < GAS_HU)))
    sides = enclosed_sides(body)
    in_slice = np.zeros((3, 3, 3), dtype=int)
    in_slice[1] = ndimage.generate_binary_structure(2, 1)
    labels, count = ndimage.label(shown & (hu < ROOM_HU), in_slice)
    enclosed = np.bincount(labels[sides >= 3], minlength=count + 1)
    indoors = 2 * enclosed > np.bincount(labels.ravel(), minlength=count + 1)
    return np.asarray(shown & np.where(labels > 0, indoors[labels], sides >= 3))


def caged(hu: Float, spacing: Spacing) -> Mask:
    """Return voxels with bone within `RIB_GAP_MM` of their slice on three of four sides, (z, y, x) bool.

    Ribs run down obliquely: any one slice shows gaps between them, a slab as thick as their distance does not. Air
    under the skin has bone on its inner side only.
    """
    bone = hu > BONE_HU
    slab = ndimage.maximum_filter1d(bone.view(np.uint8), 2 * round(RIB_GAP_MM / spacing[0]) + 1, axis=0)
    return enclosed_sides(slab > 0) >= 3


def enclosed_sides(body: Mask) -> Labels:
    """Count on how many of a voxel's four sides in the axial slice there is body, (z, y, x) uint8."""
    sides = np.zeros(body.shape, dtype=np.uint8)
    for axis in (1, 2):
        sides += np.logical_or.accumulate(body, axis=axis)
        sides += np.flip(np.logical_or.accumulate(np.flip(body, axis), axis=axis), axis)
    return sides
