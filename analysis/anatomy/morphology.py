"""Binary morphology in mm on masks (k, j, i): ball-shaped elements, holes, connected pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..volume import Float, Labels, Mask

Spacing = tuple[float, float, float]


def _ball(mask: Mask, filter_: Callable[..., Any], mm: float, spacing: Spacing) -> Mask:
    """Apply a SimpleITK filter with a ball of radius `mm`, on the mask's bounding box padded by the radius."""
    radius = [round(mm / s) for s in spacing]
    box = bounding_box(mask)
    if box is None or not any(radius):
        return mask.copy()
    padded = np.pad(mask[box].astype(np.uint8), [(r + 1, r + 1) for r in radius])
    image = filter_(sitk.GetImageFromArray(padded), radius[::-1], sitk.sitkBall)
    found = sitk.GetArrayViewFromImage(image).astype(np.bool_)
    out = np.zeros(mask.shape, dtype=np.bool_)
    start = [max(s.start - r - 1, 0) for s, r in zip(box, radius, strict=True)]
    stop = [min(s.stop + r + 1, n) for s, r, n in zip(box, radius, mask.shape, strict=True)]
    target = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    source = tuple(
        slice(a - (s.start - r - 1), b - (s.start - r - 1))
        for a, b, s, r in zip(start, stop, box, radius, strict=True)
    )
    out[target] = found[source]
    return out


def dilate(mask: Mask, mm: float, spacing: Spacing) -> Mask:
    """Dilate a mask by a ball of radius `mm`, (k, j, i) bool."""
    return _ball(mask, sitk.BinaryDilate, mm, spacing)


def erode(mask: Mask, mm: float, spacing: Spacing) -> Mask:
    """Erode a mask by a ball of radius `mm`, (k, j, i) bool; what lies beyond the array counts as outside."""
    return _ball(mask, sitk.BinaryErode, mm, spacing)


def opening(mask: Mask, mm: float, spacing: Spacing) -> Mask:
    """Open a mask by a ball of radius `mm`, (k, j, i) bool."""
    return _ball(mask, sitk.BinaryMorphologicalOpening, mm, spacing)


def closing(mask: Mask, mm: float, spacing: Spacing) -> Mask:
    """Close a mask by a ball of radius `mm`, (k, j, i) bool."""
    return _ball(mask, sitk.BinaryMorphologicalClosing, mm, spacing)


def bounding_box(mask: Mask) -> tuple[slice, slice, slice] | None:
    """Return the smallest box that holds all of `mask`; None where it is empty."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    return found[0] if found else None


def grow_box(
    box: tuple[slice, slice, slice], mm: float, spacing: Spacing, shape: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    """Return `box` with a margin of at least `mm` on every side, clipped to `shape`."""
    margins = [int(np.ceil(mm / s)) for s in spacing]
    k, j, i = (
        slice(max(b.start - m, 0), min(b.stop + m, n)) for b, m, n in zip(box, margins, shape, strict=True)
    )
    return k, j, i


def pieces(mask: Mask) -> tuple[Labels, np.ndarray]:
    """Label face-connected pieces, (k, j, i) int32, and count the voxels of each (0 for the background)."""
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return labels, sizes


def fill_holes(mask: Mask) -> Mask:
    """Fill every cavity of `mask` that cannot be left through faces, (k, j, i) bool."""
    outside, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return np.asarray((outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1])


def fill_slice_holes(mask: Mask, max_mm2: float, spacing: Spacing) -> Mask:
    """Fill the holes of at most `max_mm2` in the slices of `mask` along each axis (vessels that pass through)."""
    out = mask.copy()
    for axis in range(3):
        in_slice = np.array(ndimage.generate_binary_structure(3, 1), dtype=int)
        np.moveaxis(in_slice, axis, 0)[[0, 2]] = 0
        labels, count = ndimage.label(~mask, in_slice)
        small = (
            np.bincount(labels.ravel(), minlength=count + 1) * (np.prod(spacing) / spacing[axis]) <= max_mm2
        )
        for other in {0, 1, 2} - {axis}:
            face = np.moveaxis(labels, other, 0)[[0, -1]]
            small[face.ravel()] = False
        small[0] = False
        out |= small[labels]
    return out


def flood(markers: Labels, part: Mask, hu: Float) -> Labels:
    """Grow markers inside `part` by a watershed of HU, (k, j, i) uint8: regions meet on the bright line between."""
    relief = np.where(part, ndimage.gaussian_filter(hu, 0.7), 1000).astype(np.int16)
    image = sitk.MorphologicalWatershedFromMarkers(
        sitk.GetImageFromArray(relief),
        sitk.GetImageFromArray(markers),
        markWatershedLine=False,
        fullyConnected=False,
    )
    return np.asarray(sitk.GetArrayFromImage(image))
