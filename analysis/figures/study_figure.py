"""A patient in a cohort -> the study's Figure 1 on one page: A perfusion, B ventilation, C classes, D the cohort.

White ground, letters of 7 to 8 points and a width of two columns (180 mm), as journals ask; what is no picture of
voxels stays vectors in PDF and SVG.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from ..limits_of_use import BRIEF
from ..pipeline.pipeline import Analysis
from ..vq.classes import VQClass
from .captures import grey
from .colours import CLASS_NAME, CLASS_RGB, SCALES, class_rgb, map_rgb, top_of, unit_of
from .views import aspect, on_working_grid, section

MM = 1 / 25.4
SIZE_MM = (180.0, 128.0)
PARTS = (("A", "Q", "Perfusion surrogate Q"), ("B", "V", "Ventilation V"), ("C", "classes", "V/Q classes"))
PLANES = ("coronal", "axial")
#: Left, bottom, width and height of each part, shares of the page.
PLACES = (
    (0.02, 0.545, 0.46, 0.39),
    (0.52, 0.545, 0.46, 0.39),
    (0.02, 0.07, 0.46, 0.39),
    (0.61, 0.12, 0.36, 0.30),
)
BAR_MM = 50.0
#: White letters are read on air and on bone.
EDGE = (withStroke(linewidth=1.2, foreground="black"),)


def study_figure(analysis: Analysis, draw_cohort: Callable[[Axes], None], caption: str = "") -> Figure:
    """Compose Figure 1.

    Parameters
    ----------
    analysis : Analysis
        Of the patient.
    draw_cohort : callable
        Draws part D into axes: the cohort's correlation, the patient marked in it.
    caption : str
        A line on who is shown.

    Returns
    -------
    matplotlib.figure.Figure
        180 x 128 mm. A and B: coronal and axial, through most lung of the worst class; C the classes there.
    """
    figure = Figure(figsize=(SIZE_MM[0] * MM, SIZE_MM[1] * MM), dpi=300)
    FigureCanvasAgg(figure)
    classes = on_working_grid(analysis.classes, analysis)
    where = most_abnormal(classes)
    for (letter, layer, title), box in zip(PARTS, PLACES, strict=False):
        _heading(figure, letter, title, box)
        _pictures(figure, analysis, (layer, classes, where), box)
    left, bottom, width, height = PLACES[3]
    _heading(figure, "D", "The cohort", (0.52, 0.07, width, PLACES[2][3]))
    draw_cohort(figure.add_axes((left, bottom, width, height)))
    figure.text(0.02, 0.012, f"{caption}  {BRIEF}".strip(), fontsize=6, color="#555555")
    return figure


def most_abnormal(classes: np.ndarray) -> tuple[int, int, int]:
    """Return the indices (k, j, i) of the planes with most abnormal lung, or with most lung where all is normal."""
    found = classes > VQClass.NORMAL
    if not found.any():
        found = classes > 0
    k, j, i = (int(np.argmax(found.sum(axis=axes))) for axes in ((1, 2), (0, 2), (0, 1)))
    return k, j, i


def _heading(figure: Figure, letter: str, title: str, box: tuple[float, float, float, float]) -> None:
    top = box[1] + box[3] + 0.025
    figure.text(box[0], top, letter, fontsize=11, weight="bold", va="center")
    figure.text(box[0] + 0.03, top, title, fontsize=8, va="center")


def _pictures(
    figure: Figure,
    analysis: Analysis,
    what: tuple[str, np.ndarray, tuple[int, int, int]],
    box: tuple[float, ...],
) -> None:
    """Draw a layer in two planes side by side, to one scale, with letters for the sides and a bar of 5 cm."""
    layer, classes, where = what
    left, bottom, width, height = box
    cells = ((0.0, 0.0, 0.46, 1.0), (0.47, 0.0, 0.41, 1.0))
    for plane, (x, y, w, h) in zip(PLANES, cells, strict=True):
        axes = figure.add_axes((left + x * width, bottom + y * height, w * width, h * height))
        axes.imshow(
            _painted(analysis, classes, layer, plane, where),
            aspect=aspect(analysis.grid, plane),
            interpolation="nearest",
        )
        axes.set_axis_off()
        for letter, at, side in (("R", 0.02, "left"), ("L", 0.98, "right")):
            axes.text(
                at,
                0.97,
                letter,
                transform=axes.transAxes,
                color="white",
                fontsize=7,
                va="top",
                ha=side,
                path_effects=EDGE,
            )
        if plane == "coronal":
            _bar(axes, analysis, plane)
    if layer == "classes":
        handles = [Patch(facecolor=np.array(rgb) / 255, label=CLASS_NAME[c]) for c, rgb in CLASS_RGB.items()]
        figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(left, bottom + 0.005), ncol=4, fontsize=6, frameon=False,
            columnspacing=1.0, handlelength=1.0,
        )  # fmt: skip
    else:
        _scale(
            figure, analysis, layer, (left + 0.9 * width, bottom + 0.12 * height, 0.02 * width, 0.76 * height)
        )


def _painted(
    analysis: Analysis, classes: np.ndarray, layer: str, plane: str, where: tuple[int, int, int]
) -> Any:
    picture = np.repeat(
        grey(section(analysis.maps["ct_exp"], analysis.grid, plane, where))[..., None], 3, axis=2
    )
    if layer == "classes":
        labels = section(classes, analysis.grid, plane, where)
        picture[labels > 0] = class_rgb(labels[labels > 0])
        return picture
    values = section(analysis.maps[layer], analysis.grid, plane, where)
    valid = np.isfinite(values)
    picture[valid] = map_rgb(values[valid], layer, top_of(analysis.maps[layer]))
    return picture


def _scale(figure: Figure, analysis: Analysis, layer: str, box: tuple[float, float, float, float]) -> None:
    norm = Normalize(0, top_of(analysis.maps[layer]))
    bar = figure.colorbar(ScalarMappable(norm, SCALES[layer].colormap), cax=figure.add_axes(box))
    bar.ax.tick_params(labelsize=6, length=2)
    bar.ax.set_title(unit_of(layer, analysis.parameters.ventilation), fontsize=6)


def _bar(axes: Axes, analysis: Analysis, plane: str) -> None:
    """Draw a bar of 5 cm at the lower left."""
    rows, columns = axes.images[0].get_array().shape[:2]
    across = 2 if plane in ("axial", "coronal") else 1
    pixel = analysis.grid.spacing[int(np.argmax(np.abs(analysis.grid.directions[0 if across == 2 else 1])))]
    axes.plot(
        [2, 2 + BAR_MM / pixel], [rows - 3, rows - 3], color="white", linewidth=1.5, solid_capstyle="butt"
    )
    axes.text(2, rows - 4.5, f"{BAR_MM / 10:g} cm", color="white", fontsize=6, va="bottom", path_effects=EDGE)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
