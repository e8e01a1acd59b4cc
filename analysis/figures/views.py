"""Grids in any orientation -> planes as radiologists look at them: from the feet, from the front, from the left."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pipeline.pipeline import Analysis
from ..volume import Grid, Labels

PLANES = ("axial", "coronal", "sagittal")
#: Letters at the left, right, upper and lower edge of each plane.
EDGES = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "S", "I"), "sagittal": ("A", "P", "S", "I")}
#: Where these stand, as shares of a panel.
AT = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))


def on_working_grid(labels: Labels, analysis: Analysis) -> Labels:
    """Return labels of the CT's own grid at the centres of the working grid's voxels, (k, j, i) uint8."""
    axes = []
    for axis, n in enumerate(analysis.grid.shape):
        ends = np.zeros((2, 3))
        ends[1, axis] = n - 1
        index = analysis.expiratory.indices(analysis.grid.points(ends))[:, axis]
        axes.append(
            np.clip(np.rint(np.linspace(index[0], index[1], n)).astype(int), 0, labels.shape[axis] - 1)
        )
    return labels[np.ix_(*axes)]


def axis_of(grid: Grid) -> NDArray[np.intp]:
    """Return the array axis closest to the patient's x, y and z."""
    return np.argmax(np.abs(grid.directions), axis=1)


def section(values: NDArray[Any], grid: Grid, plane: str, where: tuple[int, int, int]) -> NDArray[Any]:
    """Return a plane in radiological view: patient's right on the left, front up (axial) or head up, front left.

    Parameters
    ----------
    values : (k, j, i)
    grid : Grid
    plane : {"axial", "coronal", "sagittal"}
    where : (3,) int
        Indices (k, j, i) the plane goes through.

    Returns
    -------
    (rows, columns)
    """
    _, _, through = view(grid, plane)
    return oriented(np.take(values, where[through], axis=through), grid, plane)


def oriented(image: NDArray[Any], grid: Grid, plane: str) -> NDArray[Any]:
    """Turn a plane of a grid, its two axes in the grid's order, into radiological view, (rows, columns)."""
    down, across, _ = view(grid, plane)
    if down > across:
        image = image.T
    up, left = flips(grid, plane)
    if up:
        image = image[::-1]
    return image[:, ::-1] if left else image


def flips(grid: Grid, plane: str) -> tuple[bool, bool]:
    """Return whether rows and columns run against their axes of the grid in radiological view.

    Rows run to the back (axial) or to the feet, columns to the patient's left (or back, sagittal).
    """
    down, across, _ = view(grid, plane)
    row_axis = {"axial": 1, "coronal": 2, "sagittal": 2}[plane]
    column_axis = {"axial": 0, "coronal": 0, "sagittal": 1}[plane]
    up = bool((grid.directions[row_axis, down] > 0) == (plane != "axial"))
    return up, bool(grid.directions[column_axis, across] < 0)


def view(grid: Grid, plane: str) -> tuple[int, int, int]:
    """Return the array axes that run down and across the picture, and the one along the line of sight."""
    x, y, z = (int(a) for a in axis_of(grid))
    return {"axial": (y, x, z), "coronal": (z, x, y), "sagittal": (z, y, x)}[plane]


def aspect(grid: Grid, plane: str) -> float:
    """Return the height of a pixel of a plane over its width."""
    down, across, _ = view(grid, plane)
    return grid.spacing[down] / grid.spacing[across]


def width_mm(grid: Grid, plane: str) -> float:
    """Return the width of a plane, mm."""
    _, across, _ = view(grid, plane)
    return grid.spacing[across] * grid.shape[across]
