"""A change between two dates -> a page: V and Q in place, classes then and now, what went from class to class."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ..figures.captures import grey, slice_in_words
from ..figures.colours import CLASS_NAME, CLASS_RGB, paint_classes
from ..figures.overview import draw_letters
from ..figures.views import PLANES, aspect, section, view
from ..limits_of_use import RESEARCH_USE
from ..volume import Labels
from ..vq.classes import VQClass
from .longitudinal import Change

#: Rows of the page: what is shown, its words; a diverging colour map whose middle is no change.
ROWS = {
    "V_n": "normalised V: change",
    "Q_n": "normalised Q: change",
    "earlier": "classes, earlier",
    "later": "now",
}
DIVERGING = "RdBu_r"
#: Changes of a normalised map at the ends of its colours.
SPAN = 0.8


def page(change: Change, title: str) -> Figure:
    """Draw three planes through the largest change of class, 1600 x 1500 pixels.

    Parameters
    ----------
    change : Change
    title : str
    """
    figure = Figure(figsize=(16, 15), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    figure.text(0.02, 0.97, title, color="white", fontsize=24, va="center")
    figure.text(0.02, 0.018, RESEARCH_USE, color="#ffdc78", fontsize=16, va="center")
    changed = (change.earlier != change.later) & (change.earlier > 0)
    seen = changed if changed.any() else change.later > 0
    where = tuple(int(np.argmax(seen.sum(axis=axes))) for axes in ((1, 2), (0, 2), (0, 1)))
    for row, (layer, words) in enumerate(ROWS.items()):
        for column, plane in enumerate(PLANES):
            axes = figure.add_axes((0.05 + 0.2 * column, 0.73 - 0.228 * row, 0.19, 0.215))
            axes.imshow(_fused(change, layer, plane, where), aspect=aspect(change.grid, plane))
            axes.set_axis_off()
            draw_letters(axes, plane, 13)
            if row == 0:
                _, _, through = view(change.grid, plane)
                axes.set_title(
                    slice_in_words(change.grid, through, where[through]), color="white", fontsize=12
                )
            if column == 0:
                axes.text(-0.05, 0.5, words, transform=axes.transAxes, rotation=90, color="white", ha="right",
                          va="center", fontsize=13)  # fmt: skip
    bar = figure.colorbar(
        ScalarMappable(Normalize(-SPAN, SPAN), DIVERGING), cax=figure.add_axes((0.66, 0.55, 0.012, 0.36))
    )
    bar.ax.tick_params(colors="white", labelsize=12)
    bar.ax.set_ylabel("change, in units of the mean (1 = the mean of both lungs)", color="white", fontsize=12)
    _table(change, figure.add_axes((0.68, 0.06, 0.3, 0.4)))
    return figure


def _fused(change: Change, layer: str, plane: str, where: Any) -> Labels:
    picture = np.repeat(grey(section(change.ct, change.grid, plane, where))[..., None], 3, axis=2)
    if layer in change.maps:
        values = section(change.maps[layer], change.grid, plane, where)
        inside = np.isfinite(values)
        colours = ScalarMappable(Normalize(-SPAN, SPAN), DIVERGING).to_rgba(values[inside], bytes=True)
        picture[inside] = colours[:, :3]
        return picture
    labels = section(getattr(change, layer), change.grid, plane, where)
    paint_classes(picture, labels)
    return picture


def _table(change: Change, axes: Any) -> None:
    """Draw the table of changes: earlier class by row, later by column, percent of lung classified on both dates."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    percent = 100 * change.transitions / max(change.transitions.sum(), 1e-9)
    axes.text(0, 1, "Percent of the lung classified twice:\nearlier (rows), now (columns)", color="white", fontsize=14,
              va="top")  # fmt: skip
    for n, c in enumerate(CLASS_RGB):
        colour = np.array(CLASS_RGB[c]) / 255
        axes.text(
            0.46 + 0.17 * n, 0.8, CLASS_NAME[c].replace(" ", "\n"), color=colour, fontsize=12, ha="center"
        )
        axes.text(0, 0.66 - 0.14 * n, CLASS_NAME[c], color=colour, fontsize=13)
        for m in range(len(VQClass) - 1):
            axes.text(
                0.46 + 0.17 * m,
                0.66 - 0.14 * n,
                f"{percent[n, m]:.1f}",
                color="white",
                fontsize=14,
                ha="center",
            )
