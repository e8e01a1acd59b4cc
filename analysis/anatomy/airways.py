"""HU on (z up, y back, x left) -> air in the trachea and the main bronchi."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..volume import Float, Mask
from .morphology import Spacing, bounding_box, dilate, grow_box, opening

LUMEN_HU = -850
WALL_HU = -500  # least mean around a lumen in soft tissue, at 2 mm
AREA_MM2 = (40.0, 700.0)
MIN_LENGTH_MM = 20.0
MIN_RADIUS_MM = 2.0
REACH_MM = 90.0


def main_airways(hu: Float, inside: Mask, spacing: Spacing) -> Mask:
    """Find the air of the trachea and the main bronchi.

    The trachea is the longest stack of small air spots, each ringed by soft tissue in its axial slice. From there
    air is grown at rising thresholds until the next would flood the lung (Hu 2001, doi:10.1109/42.929615); opening
    by a ball leaves out what is thinner than a main bronchus.

    Parameters
    ----------
    hu : (z, y, x) float32
        Lightly smoothed, z to the head, y to the back, x to the left.
    inside : (z, y, x) bool
        The body's inside.
    spacing : (3,) float
        mm along z, y, x.

    Returns
    -------
    (z, y, x) bool
        All False where no trachea is seen.
    """
    trachea = _trachea(hu, inside, spacing)
    box = bounding_box(trachea)
    if box is None:
        return trachea
    around = grow_box(box, REACH_MM, spacing, hu.shape)
    around = (slice(around[0].start, box[0].stop), around[1], around[2])  # not up into the mouth
    grown = _grow(hu[around], trachea[around], float(np.prod(spacing)) / 1000)
    thick = opening(grown, MIN_RADIUS_MM, spacing) | trachea[around]
    thick = dilate(thick, 2 * MIN_RADIUS_MM, spacing) & grown
    labels, _ = ndimage.label(thick)
    joined = np.unique(labels[trachea[around]])
    trachea[around] = np.isin(labels, joined[joined > 0])
    return trachea


def _trachea(hu: Float, inside: Mask, spacing: Spacing) -> Mask:
    """Return the longest stack, near the midline, of small spots of air ringed by tissue."""
    lumen = inside & (hu < LUMEN_HU)
    in_slice = np.ones((3, 3, 3), dtype=int)
    in_slice[[0, 2]] = 0
    spots, count = ndimage.label(lumen, in_slice)
    area = np.bincount(spots.ravel(), minlength=count + 1) * spacing[1] * spacing[2]
    width = [2 * max(2, round(4.0 / s)) + 1 for s in spacing[1:]]
    ring = np.where(lumen, 0, ndimage.maximum_filter(spots, size=(1, *width)))
    near = np.bincount(ring.ravel(), minlength=count + 1)
    mean = np.bincount(ring.ravel(), hu.ravel(), minlength=count + 1) / np.maximum(near, 1)
    good = (area >= AREA_MM2[0]) & (area <= AREA_MM2[1]) & (mean > WALL_HU) & (near > 0)
    good[0] = False
    stacks, _ = ndimage.label(good[spots])
    middle = float(np.flatnonzero(inside.any(axis=(0, 1))).mean()) if inside.any() else 0.0
    best, best_score = 0, 0.0
    for n, box in enumerate(ndimage.find_objects(stacks), start=1):
        length = (box[0].stop - box[0].start) * spacing[0]
        off = abs((box[2].start + box[2].stop - 1) / 2 - middle) * spacing[2]
        score = length - off
        if length >= MIN_LENGTH_MM and score > best_score:
            best, best_score = n, score
    return np.asarray((stacks == best) & (best > 0))


def _grow(hu: Float, seed: Mask, ml: float) -> Mask:
    """Return air joined to `seed` at the highest threshold that does not flood the lung (15 mL, 2.5 x the seed)."""
    image = sitk.GetImageFromArray(hu)
    index = np.argwhere(seed)
    seeds = [[int(n) for n in p[::-1]] for p in index[:: max(1, len(index) // 50)]]
    start, most = float(np.median(hu[seed])) + 20, 2.5 * float(seed.sum()) + 15 / ml
    found = seed
    for threshold in np.arange(start, -480.0, 20.0):
        grown = sitk.GetArrayFromImage(sitk.ConnectedThreshold(image, seeds, -4000.0, float(threshold))) > 0
        if grown.sum() > most:
            break
        found = grown | seed
    return np.asarray(found)
