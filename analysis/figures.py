"""Analysis -> pictures for people: CT, V, Q and classes in three planes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from .classes import VQClass
from .colours import CLASS_NAME, CLASS_RGB
from .pipeline import Analysis
from .volume import Grid, Labels

RESEARCH_USE = "Research use only. Perfusion is a surrogate derived from CT density."
PLANES = ("axial", "coronal", "sagittal")
ROWS = ("CT, expiration", "Ventilation V (J - 1)", "Perfusion surrogate Q (g/mL)", "V/Q classes")


def overview(analysis: Analysis) -> Figure:
    """CT, V, Q and V/Q classes in three planes through the largest abnormal cross-sections.

    Returns
    -------
    matplotlib.figure.Figure
        Rows: CT, V, Q, classes; columns: axial (seen from the feet), coronal (seen from the front), sagittal.
    """
    classes = on_working_grid(analysis.classes, analysis)
    where = _interesting(classes, analysis.grid)
    figure = Figure(figsize=(11, 13), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(4, 3)
    for column, plane in enumerate(PLANES):
        ct = section(analysis.maps["ct_exp"], analysis.grid, plane, where)
        shape = dict(aspect=aspect(analysis.grid, plane), interpolation="nearest")
        for axis in axes[:, column]:
            axis.imshow(ct, cmap="gray", vmin=-1000, vmax=200, **shape)
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0, column].set_title(plane)
        for row, name in ((1, "V"), (2, "Q")):
            values = section(analysis.maps[name], analysis.grid, plane, where)
            image = axes[row, column].imshow(
                values, cmap="viridis", vmin=0, vmax=_top(analysis, name), **shape
            )
            if column == 2:
                figure.colorbar(image, ax=axes[row, column], shrink=0.8)
        labels = section(classes, analysis.grid, plane, where)
        axes[3, column].imshow(
            np.ma.masked_equal(labels, 0), cmap=class_map(), vmin=0, vmax=4, alpha=0.8, **shape
        )
    for row, title in enumerate(ROWS):
        axes[row, 0].set_ylabel(title)
    _legend(figure, analysis)
    return figure


def _legend(figure: Figure, analysis: Analysis) -> None:
    whole = analysis.measures["lungs"]
    handles = [
        Patch(color=np.array(CLASS_RGB[c]) / 255, label=f"{CLASS_NAME[c]} {whole[c.name.lower()]:.1f} %")
        for c in CLASS_RGB
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(RESEARCH_USE, fontsize=10)


def class_map() -> ListedColormap:
    return ListedColormap([(0.0, 0.0, 0.0), *(tuple(v / 255 for v in CLASS_RGB[c]) for c in CLASS_RGB)])


def _top(analysis: Analysis, name: str) -> float:
    return float(np.nanpercentile(analysis.maps[name], 98))


def on_working_grid(labels: Labels, analysis: Analysis) -> Labels:
    """Labels of the CT's own grid at the centres of the working grid's voxels, (k, j, i) uint8."""
    axes = []
    for axis, n in enumerate(analysis.grid.shape):
        ends = np.zeros((2, 3))
        ends[1, axis] = n - 1
        index = analysis.expiratory.indices(analysis.grid.points(ends))[:, axis]
        axes.append(
            np.clip(np.rint(np.linspace(index[0], index[1], n)).astype(int), 0, labels.shape[axis] - 1)
        )
    return labels[np.ix_(*axes)]


def _interesting(classes: Labels, grid: Grid) -> tuple[int, int, int]:
    """The indices (k, j, i) whose planes show the most abnormal lung (or most lung where all is normal)."""
    abnormal = classes > VQClass.NORMAL
    if not abnormal.any():
        abnormal = classes > 0
    k, j, i = (int(np.argmax(abnormal.sum(axis=axes))) for axes in ((1, 2), (0, 2), (0, 1)))
    return k, j, i


def _axis_of(grid: Grid) -> NDArray[np.intp]:
    """The array axis closest to the patient's x, y and z."""
    return np.argmax(np.abs(grid.directions), axis=1)


def section(values: NDArray[Any], grid: Grid, plane: str, where: tuple[int, int, int]) -> NDArray[Any]:
    """A plane as a radiologist sees it: patient's right on the left, front up (axial) or head up, front left.

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
    down, across, through = _view(grid, plane)
    image = np.take(values, where[through], axis=through)
    if down > across:
        image = image.T
    # rows run to the back (axial) or to the feet; columns run to the patient's left (or back, sagittal)
    row_axis = {"axial": 1, "coronal": 2, "sagittal": 2}[plane]
    column_axis = {"axial": 0, "coronal": 0, "sagittal": 1}[plane]
    if (grid.directions[row_axis, down] > 0) == (plane != "axial"):
        image = image[::-1]
    if grid.directions[column_axis, across] < 0:
        image = image[:, ::-1]
    return image


def _view(grid: Grid, plane: str) -> tuple[int, int, int]:
    """Array axes that run down and across the picture, and the one looked along."""
    x, y, z = (int(a) for a in _axis_of(grid))
    return {"axial": (y, x, z), "coronal": (z, x, y), "sagittal": (z, y, x)}[plane]


def aspect(grid: Grid, plane: str) -> float:
    down, across, _ = _view(grid, plane)
    return grid.spacing[down] / grid.spacing[across]
