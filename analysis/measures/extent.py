"""Lungs of one phase -> whether the scan covers them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..anatomy.body import PADDING_HU, TISSUE_HU
from ..volume import Grid, Labels, Mask, Volume
from .findings import Finding, verdict_of

SIDES_CM2 = 10.0  # a whole scan has none; a narrow field of view fails by `edge_percent`
END_CM2 = (
    4.0,
    10.0,
)  # warn, fail: a recess of 3.2 was cut off a real CT, a base cut by 10 mm left 5.4 and 12.7


def field_of_view(phase: str, percent: float) -> Finding:
    """Judge the share of the lung at the edge of the field of view, from `edge_percent`."""
    words = f"{percent:.2f} % of the lung touches the edge of the field of view on {phase}"
    if percent > 0.5:
        words += ": the scan does not cover the lungs"
    return Finding(
        f"field of view, {phase}", verdict_of(percent > 0.5, False), percent, "%", "fail > 0.5 %", words
    )


def edge_percent(labels: Labels, volume: Volume) -> float:
    """Return the percent of lung voxels on the first or last slice or at the edge of the reconstruction.

    Parameters
    ----------
    labels : (k, j, i) uint8
        Lungs on the volume's grid.
    volume : Volume
        The whole scanned volume, uncropped.
    """
    lung = labels > 0
    edge = _sides(lung, volume)
    edge[[0, -1]] = True
    return 100 * float((lung & edge).sum()) / max(int(lung.sum()), 1)


def sides_cm2(labels: Labels, volume: Volume) -> float:
    """Return the area of lung cut off at the sides of the reconstruction (cm²); see `edge_percent`."""
    lung = labels > 0
    touching = int((lung & _sides(lung, volume)).sum())
    return touching * volume.grid.spacing[0] * volume.grid.spacing[2] / 100


def _sides(lung: Mask, volume: Volume) -> Mask:
    """Return the voxels at the edge of their slice's reconstruction, (k, j, i) bool.

    There are none where lungs were cut out along their outline: then there is less soft tissue than lung, and
    the array's edge and its padding say nothing of the scanner.
    """
    hu = np.asarray(volume.array, dtype=np.float32)
    edge = np.zeros(volume.grid.shape, dtype=np.bool_)
    if (hu > TISSUE_HU).sum() <= lung.sum():
        return edge
    outside = hu <= PADDING_HU  # of the reconstruction circle
    if outside.any():
        edge = np.asarray(ndimage.binary_dilation(outside))
    edge[:, [0, -1]] = True
    edge[:, :, [0, -1]] = True
    return edge


def lung_at_the_sides(phase: str, cm2: float) -> Finding:
    """Judge the area of lung cut off at the sides of the field of view, from `sides_cm2`."""
    words = f"{cm2:.1f} square centimetres of lung end at the sides of the field of view on {phase}"
    if cm2 > SIDES_CM2:
        words += ": a part of the lung is missing"
    warn = verdict_of(False, cm2 > SIDES_CM2)
    return Finding(f"sides, {phase}", warn, cm2, "cm2", f"warn > {SIDES_CM2:g} cm2", words)


def lung_on_end_slice(phase: str, cm2: tuple[float, float]) -> Finding:
    """Judge the area of lung on the scan's first or last slice, the larger one, from `end_slices_cm2`."""
    area, end = max(zip(cm2, ("first", "last"), strict=True))
    warn, fail = END_CM2
    words = f"{area:.1f} square centimetres of lung lie on the {end} slice on {phase}"
    if area > warn:
        words += ": the scan ends in the lungs, or gas below the diaphragm counts as lung"
    limit = f"warn > {warn:g}, fail > {fail:g} cm2"
    return Finding(f"end slices, {phase}", verdict_of(area > fail, area > warn), area, "cm2", limit, words)


def end_slices_cm2(labels: Labels, grid: Grid) -> tuple[float, float]:
    """Return the area of lung on the first and on the last slice (cm²); ``labels`` (k, j, i) on ``grid``."""
    pixel = grid.spacing[1] * grid.spacing[2] / 100
    return float((labels[0] > 0).sum()) * pixel, float((labels[-1] > 0).sum()) * pixel
