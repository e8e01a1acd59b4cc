"""Analysis and the expiratory CT -> colour pictures of its slices, one a slice, with legend and scale."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..limits_of_use import BRIEF
from ..parameters import PictureStyle
from ..pipeline.pipeline import Analysis
from ..volume import Float, Grid, Labels, Volume
from ..vq.classes import VQClass
from .colours import ABNORMAL, CLASS_MEANS, CLASS_NAME, CLASS_RGB, map_rgb, paint_classes
from .edges import YELLOW, edge_letters, font, write_letters
from .scales import Shown, shown

#: Layers of which there is a series of pictures.
LAYERS = ("Q", "V", "classes")
TITLES = {"V": "Ventilation", "Q": "Perfusion surrogate", "classes": "V/Q classes"}
#: Grey of the CT by its HU: two windows in one, so that lung keeps its vessels and the mediastinum its contrast.
GREYS = ((-1000.0, 0.0), (-700.0, 75.0), (-200.0, 125.0), (-100.0, 140.0), (160.0, 255.0))
#: Length of the bar that says how large things are, mm.
BAR_MM = 50.0


def lung_slices(analysis: Analysis) -> tuple[int, ...]:
    """Return the indices of the slices that show lung."""
    return tuple(int(k) for k in np.flatnonzero((analysis.lungs > 0).any(axis=(1, 2))))


def worst_slices(analysis: Analysis, n: int = 3) -> tuple[int, ...]:
    """Return the slices with the most abnormal lung, the worst first, no two closer than 20 mm."""
    area = (analysis.classes > VQClass.NORMAL).sum(axis=(1, 2))
    apart = 20.0 / analysis.expiratory.spacing[0]
    chosen: list[int] = []
    for k in np.argsort(area, kind="stable")[::-1]:
        if len(chosen) == n or area[k] == 0:
            break
        if all(abs(int(k) - other) >= apart for other in chosen):
            chosen.append(int(k))
    return tuple(chosen)


def painter(
    analysis: Analysis, ct: Volume, layer: str, style: PictureStyle, who: str = ""
) -> Callable[[int], Labels]:
    """Return a function that paints a slice: CT in grey, the layer opaquely in colour over it, the legend below.

    Parameters
    ----------
    analysis : Analysis
    ct : Volume
        The expiratory CT on its own grid.
    layer : str
        One of `LAYERS`.
    style : PictureStyle
    who : str
        Patient and date, written into the legend; "" for none.

    Returns
    -------
    callable
        Index of a slice -> picture, (rows + strip, columns, 3) uint8. Pixel (j, i) of the slice is pixel (j, i) of
        the picture: the strip lies beyond the last row. It may be called from several threads.
    """
    grid, index = ct.grid, working_index(analysis)
    scale = None if layer == "classes" else shown(analysis, layer, style)
    legend = strip(analysis, layer, style, grid.shape[2], grid.spacing[2])
    letters = edge_letters(grid.directions[:, 2], grid.directions[:, 1])

    def paint(k: int) -> Labels:
        picture = np.repeat(grey(ct.array[k])[..., None], 3, axis=2)
        if scale is None:
            paint_classes(picture, analysis.classes[k])
        else:
            values = on_slice(analysis.maps[layer], k, index)
            where = np.isfinite(values)
            picture[where] = map_rgb(values[where] / scale.by, layer, scale.top)
        picture = write_letters(picture, letters)
        return np.concatenate([picture, captioned(legend, slice_in_words(grid, 0, k), who)])

    return paint


def grey(hu: NDArray[Any]) -> Labels:
    """Return the CT in the greys of the pictures, uint8."""
    at, greys = zip(*GREYS, strict=True)
    return np.asarray(np.interp(hu, at, greys) + 0.5).astype(np.uint8)


def slice_in_words(grid: Grid, axis: int, n: float, side: str = "") -> str:
    """Return where a slice of an axis of the grid lies, mm LPS, as written into pictures; ``side``: which lung.

    Examples
    --------
    >>> slice_in_words(Grid.axial((4, 4, 4), (2.0, 1.0, 1.0), (0.0, 0.0, -210.5)), 0, 1)
    'axial, z -208.5 mm'
    """
    along = int(np.abs(grid.directions[:, axis]).argmax())
    middle = (np.array(grid.shape, dtype=np.float64) - 1) / 2
    middle[axis] = n
    position = float(grid.points(middle[None])[0][along])
    name = ("sagittal", "coronal", "axial")[along]
    return f"{name}, {'xyz'[along]} {position:+.1f} mm" + (f", {side}" if side else "")


def on_slice(values: Float, k: int, index: list[NDArray[np.intp]]) -> Float:
    """Return a map at every pixel of slice ``k`` of the CT, (rows, columns) float32; NaN outside the map.

    Parameters
    ----------
    values : (k, j, i) float32
        On the working grid.
    k : int
    index : list of (n,) int
        Of `working_index`.
    """
    out: Float = np.full((index[1].size, index[2].size), np.nan, dtype=np.float32)
    if index[0][k] >= 0:
        rows, columns = index[1] >= 0, index[2] >= 0
        out[np.ix_(rows, columns)] = values[index[0][k]][np.ix_(index[1][rows], index[2][columns])]
    return out


def working_index(analysis: Analysis) -> list[NDArray[np.intp]]:
    """Return, for each axis of the CT, which voxel of the working grid its voxels lie in; -1 outside."""
    out = []
    for axis, n in enumerate(analysis.expiratory.shape):
        ends = np.zeros((2, 3))
        ends[1, axis] = n - 1
        found = analysis.grid.indices(analysis.expiratory.points(ends))[:, axis]
        # slightly more than half, so that rounding errors do not decide on a CT voxel between two blocks
        index = np.floor(np.linspace(found[0], found[1], n) + 0.5 + 1e-6).astype(np.intp)
        index[(index < 0) | (index >= analysis.grid.shape[axis])] = -1
        out.append(index)
    return out


def legend_size(width: int) -> int:
    """Return the height of a line's letters in the legend of a picture, pixels."""
    return max(11, width // 34)


def legend_bar(width: int) -> tuple[int, int, int, int]:
    """Return where the legend's bar lies: left, top (below the last row), width and height, pixels."""
    size = legend_size(width)
    return width // 12, size * 3 // 2 + 1, width * 3 // 4, size


def strip(analysis: Analysis, layer: str, style: PictureStyle, columns: int, pixel_mm: float) -> Labels:
    """Draw the legend of a layer: title and a bar of 5 cm, scale or classes, what they mean, limits of use.

    Parameters
    ----------
    analysis : Analysis
    layer : str
    style : PictureStyle
    columns : int
        Of the picture; the legend of one narrower than 256 is cut.
    pixel_mm : float
        Width of a pixel.

    Returns
    -------
    (rows, columns, 3) uint8
        With an empty line for `captioned`.
    """
    width = max(columns, 256)
    size = legend_size(width)
    image = Image.new("RGB", (width, size * 3 // 2 * 6))
    draw = ImageDraw.Draw(image)
    small = font(max(9, size * 5 // 6))
    bar = round(BAR_MM / pixel_mm)
    draw.text((4, 1), TITLES[layer], font=font(size))
    draw.rectangle((width - 6 - bar, size // 2, width - 6, size // 2 + 3), fill="white")
    draw.text((width - 12 - bar, size // 2 + 2), f"{BAR_MM / 10:g} cm", font=small, anchor="rm")
    line = size * 3 // 2
    if layer == "classes":
        _class_legend(draw, line + 2, size, width, small)
        words = means_in_words(analysis.parameters.low)
        lines = textwrap.wrap(words, len(words) // 2 + 8)
    else:
        scale = shown(analysis, layer, style)
        _bar_legend(image, draw, width, layer, scale, small)
        lines = ["", scale.words]  # the first is that of the bar's numbers
    letters = _fitting(max(lines, key=len), width - 8, small)
    for n, text in enumerate(lines):
        draw.text((4, line * (2 + n) + 2), text, font=letters)
    draw.text((4, line * 4), BRIEF, font=_fitting(BRIEF, width - 8, small), fill=YELLOW)
    return np.asarray(image)[:, :columns]


def means_in_words(low: float) -> str:
    """Return what the classes rest on, as written once on every page and picture of them."""
    words = [words.format(low=f"{100 * low:.0f} %") for words in CLASS_MEANS.values()]
    return "; ".join(words) + " of the mean"


def captioned(legend: Labels, where: str, who: str) -> Labels:
    """Return a legend with its last line written: where the slice lies, and whose it is."""
    width = legend.shape[1]
    size = legend_size(max(width, 256))
    image = Image.fromarray(legend)
    words = f"{where}   {who}" if who else where
    place = (4, size * 3 // 2 * 5)
    ImageDraw.Draw(image).text(place, words, font=_fitting(words, width - 8, font(size)), fill="white")
    return np.asarray(image)


def _class_legend(
    draw: ImageDraw.ImageDraw, y: int, size: int, width: int, small: ImageFont.FreeTypeFont
) -> None:
    names = [*(CLASS_NAME[c] for c in ABNORMAL), "Normal"]
    gap = min(size, 8)
    letters = _fitting("".join(names), width - 8 - len(names) * size - (len(names) - 1) * gap, small)
    x = 4
    for n, name in enumerate(names):
        box = (x, y, x + size - 3, y + size - 3)
        if n < len(ABNORMAL):
            draw.rectangle(box, fill=CLASS_RGB[ABNORMAL[n]])
        else:
            draw.rectangle(box, outline="white")
        draw.text((x + size, y - 2), name, font=letters)
        x += size + round(draw.textlength(name, font=letters)) + gap


def _bar_legend(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    width: int,
    layer: str,
    scale: Shown,
    small: ImageFont.FreeTypeFont,
) -> None:
    left, top, length, height = legend_bar(width)
    ramp = map_rgb(np.linspace(0, scale.top, length, dtype=np.float32)[None], layer, scale.top)
    image.paste(Image.fromarray(np.repeat(ramp, height, axis=0)), (left, top))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        words = f"{share * scale.top:.3g}" if share < 1 else f"≥ {scale.top:.3g} {scale.unit}"
        x = left + round(share * (length - 1))
        draw.line((x, top + height, x, top + height + 2), fill="white")
        last = min(x, width - 4 - round(draw.textlength(words, font=small)))  # narrow pictures keep the unit
        place, anchor = (x, "mt") if share < 1 else (last, "lt")
        draw.text((place, top + height + 3), words, font=small, anchor=anchor)


def _fitting(words: str, width: int, wanted: ImageFont.FreeTypeFont) -> ImageFont.FreeTypeFont:
    """Return the font, or a smaller one in which the words keep within a width."""
    needed = wanted.getlength(words)
    return wanted if needed <= width else font(max(6, int(wanted.size * width / needed)))
