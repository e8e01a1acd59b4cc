"""Analysis -> a page of coronal slabs from front to back: Q, V and classes side by side, as V/Q scans are read."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.figure import Figure

from ..parameters import PictureStyle
from ..pipeline.pipeline import Analysis
from ..volume import Labels
from .captures import LAYERS, TITLES, grey, slice_in_words
from .colours import ABNORMAL, CLASS_NAME, CLASS_RGB, map_rgb, paint_classes
from .overview import classes_in_words, draw_letters, draw_scale, scales_in_words, swatch
from .scales import Shown, shown
from .slabs import Slab, mean_of, most_frequent, slabs_through
from .views import aspect, on_working_grid, oriented, view

#: Slabs on the page.
ROWS = 5


def montage(
    figure: Figure, analysis: Analysis, style: PictureStyle, box: tuple[float, float, float, float], ink: str
) -> None:
    """Draw slabs, evenly spaced through the lungs, into a part of a figure.

    Parameters
    ----------
    figure : Figure
    analysis : Analysis
    style : PictureStyle
    box : (4,) float
        Left, bottom, width and height as shares of the figure.
    ink : str
        Colour of the words.
    """
    left, bottom, width, height = box
    grid, lungs = analysis.grid, on_working_grid(analysis.lungs, analysis)
    classes = on_working_grid(analysis.classes, analysis)
    _, _, through = view(grid, "coronal")
    found = slabs_through(lungs, grid, "coronal", style.slab_mm)
    # front to back: LPS y grows to the back
    found = found if grid.directions[1, through] > 0 else found[::-1]
    chosen = (
        [found[n] for n in np.unique(np.linspace(0, len(found) - 1, ROWS + 2).astype(int)[1:-1])]
        if found
        else []
    )
    words = (
        f"Coronal slabs of {style.slab_mm:g} mm, front to back. {scales_in_words(analysis, style)} "
        f"{classes_in_words(analysis.parameters)}"
    )
    for n, told in enumerate(textwrap.wrap(words, 138)):
        figure.text(left, bottom + height - 0.002 - 0.0125 * n, told, fontsize=7, color=ink)
    top, high, wide = bottom + height - 0.058, (height - 0.103) / ROWS, width / len(LAYERS)
    for column, layer in enumerate(LAYERS):
        scale = None if layer == "classes" else shown(analysis, layer, style)
        figure.text(
            left + (column + 0.5) * wide, top + 0.006, TITLES[layer], fontsize=9, color=ink, ha="center"
        )
        for row, slab in enumerate(chosen):
            at = (left + column * wide, top - (row + 1) * high, wide * 0.96, high * 0.9)
            axes = figure.add_axes(at)
            axes.imshow(_picture(analysis, classes, layer, scale, slab), aspect=aspect(grid, "coronal"),
                        interpolation="nearest")  # fmt: skip
            axes.set_axis_off()
            draw_letters(axes, "coronal", 8)
            if column == 0:
                axes.set_title(slice_in_words(grid, through, slab.middle), fontsize=6.5, color=ink, pad=1.5)
        if scale is None:
            for n, c in enumerate(ABNORMAL):
                x = left + column * wide + (0.03, 0.125, 0.19)[n]
                swatch(figure, x, bottom + 0.009, CLASS_RGB[c])
                figure.text(x + 0.016, bottom + 0.01, CLASS_NAME[c], fontsize=6.5, color=ink)
        if scale:
            bar = figure.add_axes((left + (column + 0.15) * wide, bottom + 0.01, wide * 0.66, 0.007))
            draw_scale(figure, bar, layer, scale, ink, "horizontal")


def _picture(analysis: Analysis, classes: Labels, layer: str, scale: Shown | None, slab: Slab) -> Labels:
    grid = analysis.grid
    _, _, through = view(grid, "coronal")
    ct = oriented(mean_of(analysis.maps["ct_exp"], through, slab), grid, "coronal")
    picture = np.repeat(grey(ct)[..., None], 3, axis=2)
    if scale is None:
        paint_classes(picture, oriented(most_frequent(classes, through, slab), grid, "coronal"))
        return picture
    values = oriented(mean_of(analysis.maps[layer], through, slab), grid, "coronal")
    where = np.isfinite(values)
    picture[where] = map_rgb(values[where] / scale.by, layer, scale.top)
    return picture
