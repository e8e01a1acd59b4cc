"""Analysis and the expiratory CT -> colour pictures of its slices, one a slice, with legend and scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..limits_of_use import BRIEF
from ..pipeline.pipeline import Analysis
from ..volume import Float, Labels, Mask, Volume
from ..vq.classes import VQClass
from .colours import CLASS_NAME, CLASS_RGB, SCALES, class_rgb, map_rgb, top_of, unit_of

#: Layers of which there is a series of pictures.
LAYERS = ("Q", "V", "classes")
TITLES = {"V": "Ventilation", "Q": "Perfusion surrogate", "classes": "V/Q classes"}
#: Window of the CT below the colours, HU.
WINDOW = (-1350.0, 150.0)
#: Share of the colour in the blend: the vessels stay visible through it.
OPACITY = 0.6
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


def painter(analysis: Analysis, ct: Volume, layer: str) -> Callable[[int], Labels]:
    """Return a function that paints a slice: CT in grey, the layer in colour over it, the legend below.

    Parameters
    ----------
    analysis : Analysis
    ct : Volume
        The expiratory CT on its own grid.
    layer : str
        One of `LAYERS`.

    Returns
    -------
    callable
        Index of a slice -> picture, (rows + strip, columns, 3) uint8. Pixel (j, i) of the slice is pixel (j, i) of
        the picture: the strip lies beyond the last row. It may be called from several threads.
    """
    top = 1.0 if layer == "classes" else top_of(analysis.maps[layer])
    columns = ct.grid.shape[2]
    title = TITLES[layer]
    if layer in SCALES:
        title += f" ({unit_of(layer, analysis.parameters.ventilation)})"
    strip = _strip(layer, title, top, max(columns, 256), ct.grid.spacing[2])[:, :columns]
    index = working_index(analysis)

    def paint(k: int) -> Labels:
        picture = np.repeat(grey(ct.array[k])[..., None], 3, axis=2)
        colour, where = _colour(analysis, layer, top, k, index)
        blend = np.float32(OPACITY) * colour + np.float32(1 - OPACITY) * picture[where]
        picture[where] = (blend + np.float32(0.5)).astype(np.uint8)
        return np.concatenate([picture, strip])

    return paint


def grey(hu: NDArray[Any]) -> Labels:
    """Return the CT in the window of the pictures, uint8."""
    scale = np.float32(255 / (WINDOW[1] - WINDOW[0]))
    return (np.clip(hu, *WINDOW).astype(np.float32) * scale - np.float32(WINDOW[0] * scale)).astype(np.uint8)


def _colour(
    analysis: Analysis, layer: str, top: float, k: int, index: list[NDArray[np.intp]]
) -> tuple[Labels, Mask]:
    """Return the colours (n, 3) of a slice's coloured pixels, and which pixels these are."""
    if layer == "classes":
        where = analysis.classes[k] > 0
        return class_rgb(analysis.classes[k][where]), where
    values = on_slice(analysis.maps[layer], k, index)
    where = np.isfinite(values)
    return map_rgb(values[where], layer, top), where


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


def _strip(layer: str, title: str, top: float, width: int, pixel_mm: float) -> Labels:
    """Draw the legend: title and a bar of 5 cm, scale or classes, and limits of use."""
    size = max(11, width // 30)
    height = 4 * size + size // 2
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
    small = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), max(9, size * 5 // 6))
    row = size * 3 // 2
    draw.text((4, 1), title, font=font)
    bar = round(BAR_MM / pixel_mm)
    draw.rectangle((width - 6 - bar, size // 2, width - 6, size // 2 + 3), fill="white")
    draw.text((width - 12 - bar, size // 2 + 2), f"{BAR_MM / 10:g} cm", font=small, anchor="rm")
    if layer == "classes":
        x = 4
        for c, rgb in CLASS_RGB.items():
            draw.rectangle((x, row + 2, x + size - 3, row + size - 1), fill=rgb)
            draw.text((x + size, row), CLASS_NAME[c], font=small)
            x += size + round(draw.textlength(CLASS_NAME[c], font=small)) + size // 2
    else:
        ramp = map_rgb(np.linspace(0, top, width * 3 // 4, dtype=np.float32)[None], layer, top)
        ramp = np.repeat(ramp, size, axis=0)
        image.paste(Image.fromarray(ramp), (width // 12, row + 1))
        draw.text((4, row), "0", font=small)
        draw.text((width // 12 + width * 3 // 4 + 6, row), f"≥ {top:g}", font=small)
    draw.text((4, 3 * size), BRIEF, font=small, fill=(255, 220, 120))
    return np.asarray(image)
