"""Analysis -> one page for people: perfusion, ventilation and V/Q classes in three planes, and their fractions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..anatomy.regions import REGIONS
from ..limits_of_use import RESEARCH_USE
from ..measures.digits import sd_of, text_of
from ..measures.findings import Finding
from ..parameters import PictureStyle
from ..pipeline.pipeline import Analysis, Parameters
from ..volume import Grid, Labels
from ..vq.classes import NORMALISED_BY, VQClass
from .captures import LAYERS, TITLES, grey, means_in_words, slice_in_words
from .colours import ABNORMAL, CLASS_NAME, CLASS_RGB, RGB, SCALES, map_rgb, paint_classes
from .impression import worst_zones
from .scales import Shown, shown
from .views import AT, EDGES, PLANES, aspect, on_working_grid, section, view, width_mm

COLUMNS = ("normal", "dead_space", "shunt", "matched_defect", "total_abnormal")


def overview(analysis: Analysis, style: PictureStyle | None = None, who: str = "") -> Figure:
    """Draw the page that goes to the PACS and beside the results: light on black, 1600 x 1200 pixels.

    Parameters
    ----------
    analysis : Analysis
    style : PictureStyle, optional
    who : str
        Patient and date, written at the top; "" for none.

    Returns
    -------
    matplotlib.figure.Figure
        Rows: perfusion, ventilation, V/Q classes; columns: axial (seen from the feet), coronal (seen from the
        front), sagittal (front on the left), each through the largest abnormal cross-section; the fractions.
    """
    figure = Figure(figsize=(16, 12), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    # in the middle, because viewers write into the corners
    middle = {"ha": "center", "va": "center"}
    figure.text(0.42, 0.975, "CT lung ventilation/perfusion", color="white", fontsize=25, **middle)
    figure.text(0.42, 0.945, who, color="white", fontsize=15, **middle)
    figure.text(0.42, 0.02, RESEARCH_USE, color="#ffdc78", fontsize=17, **middle)
    planes(figure, analysis, (0.035, 0.045, 0.62, 0.875), "white", style or PictureStyle())
    fractions(figure, analysis, (0.68, 0.36, 0.31, 0.56), "white")
    words = (
        classes_in_words(analysis.parameters),
        scales_in_words(analysis, style or PictureStyle()),
        worst_zone(analysis),
        quality_in_words(analysis.findings),
    )
    lines = [line for part in words for line in [*textwrap.wrap(part, 50), ""]]
    figure.text(0.67, 0.335, "\n".join(lines), color="white", fontsize=13, va="top", linespacing=1.35)
    return figure


def classes_in_words(parameters: Parameters) -> str:
    """Return a sentence on what the colours mean."""
    means = means_in_words(parameters.low)
    by = NORMALISED_BY[parameters.normalisation]
    return f"{means[0].upper()}{means[1:].removesuffix(' of the mean')} (of their {by}). Normal lung is not coloured."


def scales_in_words(analysis: Analysis, style: PictureStyle) -> str:
    """Return in words which scales V and Q are shown on."""
    told = [f"{layer}: {shown(analysis, layer, style).words}" for layer in ("V", "Q")]
    return "; ".join(told) + "."


def worst_zone(analysis: Analysis) -> str:
    """Return in words the zone with the most abnormal lung, and how much."""
    worst = worst_zones(analysis)
    if not worst:
        return "No zone shows abnormal lung."
    region, share = worst[0]
    words = text_of(share, "%", sd_of(analysis.measures[region], "total_abnormal"))
    return f"Most abnormal: {REGIONS[region].lower()} ({words} %)."


def quality_in_words(findings: Sequence[Finding]) -> str:
    """Return in words which checks did not pass, the failed ones first."""
    names = {
        verdict: "; ".join(dict.fromkeys(f.check for f in findings if f.verdict == verdict))
        for verdict in ("fail", "warn")
    }
    told = [
        f"{words}: {names[verdict]}."
        for verdict, words in (("fail", "failed"), ("warn", "to be read with care"))
        if names[verdict]
    ]
    return f"Quality: {len(findings)} checks, " + (" ".join(told) or "all passed.")


def planes(
    figure: Figure, analysis: Analysis, box: tuple[float, float, float, float], ink: str, style: PictureStyle
) -> None:
    """Draw the three layers in three planes, with their scales, into a part of a figure.

    Parameters
    ----------
    figure : Figure
    analysis : Analysis
    box : (4,) float
        Left, bottom, width and height as shares of the figure.
    ink : str
        Colour of the words.
    style : PictureStyle
    """
    classes = on_working_grid(analysis.classes, analysis)
    where = _interesting(classes, analysis.grid)
    left, bottom, width, height = box
    size = 5 + 0.5 * figure.get_figwidth()
    widths = np.array([width_mm(analysis.grid, plane) for plane in PLANES])
    widths *= 0.84 * width / widths.sum()
    for row, layer in enumerate(LAYERS):
        low = bottom + height * (2 - row) / 3
        scale = shown(analysis, layer, style) if layer in SCALES else None
        for column, plane in enumerate(PLANES):
            start = left + widths[:column].sum() + 0.01 * width * column
            axes = figure.add_axes((start, low, widths[column], height * 0.3))
            axes.imshow(_fused(analysis, classes, layer, scale, plane, where), aspect=aspect(analysis.grid, plane),
                        interpolation="nearest")  # fmt: skip
            axes.set_axis_off()
            draw_letters(axes, plane, size)
            if row == 0:
                axes.set_title(place_in_words(analysis, plane, where), color=ink, fontsize=size * 0.8)
            if column == 0:
                axes.text(-0.03, 0.5, TITLES[layer], transform=axes.transAxes, rotation=90, color=ink,
                          ha="right", va="center", fontsize=size)  # fmt: skip
        if scale:
            bar = figure.add_axes((left + width * 0.9, low + height * 0.03, width * 0.018, height * 0.23))
            draw_scale(figure, bar, layer, scale, ink, "vertical")


def place_in_words(analysis: Analysis, plane: str, where: tuple[int, int, int]) -> str:
    """Return where a plane lies, and which lung a sagittal one cuts."""
    _, _, through = view(analysis.grid, plane)
    side = ""
    if plane == "sagittal":
        cut = np.take(on_working_grid(analysis.lungs, analysis), where[through], axis=through)
        side = "right lung" if (cut == 1).sum() >= (cut == 2).sum() else "left lung"
    return slice_in_words(analysis.grid, through, where[through], side)


def swatch(figure: Figure, x: float, y: float, rgb: RGB) -> None:
    """Draw a small square of a colour with its lower left corner at a place of a page."""
    size = 0.008
    width = size * figure.get_figheight() / figure.get_figwidth()
    figure.add_artist(Rectangle((x, y), width, size, color=tuple(v / 255 for v in rgb), linewidth=0))


def draw_letters(axes: Any, plane: str, size: float) -> None:
    """Write the letters of the patient's sides at the edges of a panel."""
    rim = [withStroke(linewidth=2, foreground="black")]
    aligned = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
    for (x, y), (ha, va), letter in zip(AT, aligned, EDGES[plane], strict=True):
        axes.text(x, y, letter, transform=axes.transAxes, ha=ha, va=va, color="#ffdc78", fontsize=size * 0.8,
                  path_effects=rim)  # fmt: skip


def draw_scale(
    figure: Figure,
    axes: Any,
    layer: str,
    scale: Shown,
    ink: str,
    orientation: Literal["vertical", "horizontal"],
) -> None:
    """Draw the bar of a map's colours with its unit."""
    colours = ScalarMappable(Normalize(0, scale.top), SCALES[layer].colormap)
    bar = figure.colorbar(colours, cax=axes, orientation=orientation)
    bar.ax.tick_params(colors=ink, labelsize=4 + 0.45 * figure.get_figwidth())
    words = {"color": ink, "fontsize": 4 + 0.45 * figure.get_figwidth()}
    if orientation == "vertical":
        bar.ax.set_title(scale.unit, **words)
    else:
        bar.ax.text(1.04, 0.5, scale.unit, transform=bar.ax.transAxes, va="center", **words)


def _fused(
    analysis: Analysis,
    classes: Labels,
    layer: str,
    scale: Shown | None,
    plane: str,
    where: tuple[int, int, int],
) -> Labels:
    ct = section(analysis.maps["ct_exp"], analysis.grid, plane, where)
    picture = np.repeat(grey(ct)[..., None], 3, axis=2)
    if scale is None:
        paint_classes(picture, section(classes, analysis.grid, plane, where))
        return picture
    values = section(analysis.maps[layer], analysis.grid, plane, where)
    valid = np.isfinite(values)
    picture[valid] = map_rgb(values[valid] / scale.by, layer, scale.top)
    return picture


def fractions(figure: Figure, analysis: Analysis, box: tuple[float, float, float, float], ink: str) -> None:
    """Draw the table of the classes' fractions of every region, the colours of the classes above it."""
    axes = figure.add_axes(box)
    axes.set_axis_off()
    size = min(2.9 * figure.get_figwidth() * box[2], 36 * figure.get_figheight() * box[3] / 12)
    heads = [*(CLASS_NAME[c].replace(" ", "\n") for c in CLASS_RGB), "Total\nabnormal"]
    rows = [(REGIONS[region], values) for region, values in analysis.measures.items()]
    step = 1 / (len(rows) + 3)
    axes.text(0, 1.0, "Percent of classified lung", color=ink, fontsize=size, va="top")
    for n, head in enumerate(heads):
        x = 0.48 + n * 0.13
        axes.text(x, 1 - 2.2 * step, head, color=ink, fontsize=size * 0.6, ha="right", va="center")
    for n, (c, rgb) in enumerate(CLASS_RGB.items()):
        fill = tuple(v / 255 for v in rgb) if c in ABNORMAL else "none"
        axes.plot(0.46 + n * 0.13, 1 - 1.3 * step, "s", markerfacecolor=fill, markeredgecolor=ink,
                  markeredgewidth=0.6, markersize=size * 0.8)  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for r, (words, values) in enumerate(rows):
        y = 1 - (r + 3.3) * step
        axes.text(0, y, words, color=ink, fontsize=size * 0.82, va="center")
        for n, name in enumerate(COLUMNS):
            text = text_of(values[name], "%", sd_of(values, name)).replace("-", "–")
            axes.text(0.48 + n * 0.13, y, text, color=ink, fontsize=size * 0.82, ha="right", va="center")


def class_map() -> ListedColormap:
    """Return the colours of `VQClass` values 0 to 4 for matplotlib."""
    return ListedColormap([(0.0, 0.0, 0.0), *(tuple(v / 255 for v in CLASS_RGB[c]) for c in CLASS_RGB)])


def _interesting(classes: Labels, grid: Grid) -> tuple[int, int, int]:
    """Return the indices (k, j, i) whose planes show the most abnormal lung (or most lung if all is normal)."""
    abnormal = classes > VQClass.NORMAL
    if not abnormal.any():
        abnormal = classes > 0
    k, j, i = (int(np.argmax(abnormal.sum(axis=axes))) for axes in ((1, 2), (0, 2), (0, 1)))
    return k, j, i
