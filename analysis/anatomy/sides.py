"""Pieces of lung -> right and left: where the lungs touch, the border follows the bright line between them."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from scipy import ndimage

from ..volume import Float, Labels, Mask
from .morphology import Spacing, bounding_box, erode, flood, pieces

MIN_LUNG_ML = 150.0
APART_MM = 60.0  # least distance between the centres of two lungs, left to right
SPLIT_MM = (2.0, 4.0, 6.0, 8.0, 10.0, 13.0, 16.0)


class Lung(IntEnum):
    """Labels of the lungs."""

    NONE = 0
    RIGHT = 1
    LEFT = 2


def sides(parts: Labels, spacing: Spacing, hu: Float, middle: float | None) -> Labels:
    """Label right and left lung from the pieces of lung.

    Parameters
    ----------
    parts : (z, y, x) uint8
        Connected pieces, numbered from 1, largest first; part 1 is cut in place where it holds two lungs.
    spacing : (3,) float
        mm along z, y, x.
    hu : (z, y, x) float32
    middle : float or None
        Index along x of the body's midline, where it is known.

    Returns
    -------
    (z, y, x) uint8
        Values of `Lung`.
    """
    ml = float(np.prod(spacing)) / 1000
    sizes = np.bincount(parts.ravel()) * ml
    if len(sizes) < 3 or sizes[2] < 0.5 * sizes[1]:
        _split(parts, hu, spacing)
        sizes = np.bincount(parts.ravel()) * ml
    numbers = np.arange(1, len(sizes))
    x = np.array(ndimage.center_of_mass(parts > 0, parts, numbers))[:, 2] * spacing[2]
    main = int(np.argmax(sizes[1:]))
    others = [
        n for n in np.argsort(-sizes[1:]) if sizes[1:][n] >= MIN_LUNG_ML and abs(x[n] - x[main]) >= APART_MM
    ]
    if others:
        side = np.where(x < (x[main] + x[others[0]]) / 2, Lung.RIGHT, Lung.LEFT)
    else:
        side = np.full(len(x), _side(parts == main + 1, spacing, middle))
    table = np.concatenate([[Lung.NONE], side]).astype(np.uint8)
    return np.asarray(table[parts])


def _split(parts: Labels, hu: Float, spacing: Spacing) -> None:
    """Split part 1 in two, in place, where erosion finds two lungs side by side in it."""
    box = bounding_box(parts == 1)
    if box is None:
        return
    part = parts[box] == 1
    for mm in SPLIT_MM:
        labels, sizes = pieces(erode(part, mm, spacing))
        two = np.argsort(-sizes)[:2]
        if len(sizes) < 3 or sizes[two[1]] < 0.2 * sizes.sum():
            continue
        x = np.array(ndimage.center_of_mass(labels > 0, labels, two))[:, 2] * spacing[2]
        if abs(x[0] - x[1]) < APART_MM:
            continue
        markers = np.zeros(part.shape, dtype=np.uint8)
        markers[labels == two[0]], markers[labels == two[1]] = 1, 2
        flooded = flood(markers, part, hu[box])
        parts[box][part & (flooded == 2)] = int(parts.max()) + 1
        return


def _side(lung: Mask, spacing: Spacing, middle: float | None) -> Lung:
    """Return which lung a single lung is.

    Where the body is seen from flank to flank, its midline decides. In a crop, the lung's shape decides: the
    heart, the great vessels and the spine dent a lung on its inner side, the chest wall bulges it on the outer one, so
    the lung's convex outline in each axial slice holds more that is not lung on the side of the midline.
    """
    x = float(np.mean(np.nonzero(lung)[2]))
    if middle is not None and abs(x - middle) * spacing[2] > 10:
        return Lung.RIGHT if x < middle else Lung.LEFT
    box = bounding_box(lung)
    assert box is not None
    lung = lung[box]
    spans = np.logical_or.accumulate(lung, axis=1) & np.flip(
        np.logical_or.accumulate(np.flip(lung, 1), axis=1), 1
    )
    dents = np.nonzero(spans & ~lung)[2]
    inner = float(np.mean(dents)) if dents.size else 0.0
    return Lung.RIGHT if inner > float(np.mean(np.nonzero(lung)[2])) else Lung.LEFT
