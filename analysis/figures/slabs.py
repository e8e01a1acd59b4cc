"""Analysis and the expiratory CT -> colour pictures of coronal or sagittal slabs, in square pixels, with their place.

V and Q are the means over a slab, its class is the most frequent one, so that a reader of V/Q scans finds the slabs
known from scintigraphy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..parameters import PictureStyle
from ..pipeline.pipeline import Analysis
from ..volume import Float, Grid, Labels, Volume
from ..vq.classes import VQClass
from .captures import captioned, grey, slice_in_words, strip, working_index
from .colours import map_rgb, paint_classes
from .edges import write_letters
from .scales import shown
from .views import EDGES, flips, oriented, view


@dataclass(frozen=True)
class Slab:
    """Hold a slab of the CT.

    Parameters
    ----------
    start, stop : int
        Of the CT's voxels along the line of sight.
    """

    start: int
    stop: int

    @property
    def middle(self) -> float:
        """Return the middle of the slab, as an index of the CT's voxels."""
        return (self.start + self.stop - 1) / 2


@dataclass(frozen=True, eq=False)
class Place:
    """Hold where a picture of a slab lies (PS3.3 C.7.6.2), mm LPS.

    Parameters
    ----------
    position : (3,) float
        Centre of the first pixel.
    orientation : (6,) float
        Directions in which columns, then rows are counted.
    pixel_mm, thickness_mm : float
    """

    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    pixel_mm: float
    thickness_mm: float


def slabs(analysis: Analysis, plane: str, thickness_mm: float) -> tuple[Slab, ...]:
    """Return the slabs through the lungs, one beside the other, in the order of the CT's voxels."""
    return slabs_through(analysis.lungs, analysis.expiratory, plane, thickness_mm)


def slabs_through(lungs: Labels, grid: Grid, plane: str, thickness_mm: float) -> tuple[Slab, ...]:
    """Return the slabs through lungs, (k, j, i) on a grid, in the order of the grid's voxels."""
    down, across, through = view(grid, plane)
    lung = np.flatnonzero((lungs > 0).any(axis=(down, across)))
    if not lung.size:
        return ()
    step = max(1, round(thickness_mm / grid.spacing[through]))
    return tuple(Slab(int(n), int(min(n + step, lung[-1] + 1))) for n in range(lung[0], lung[-1] + 1, step))


def place_of_slab(grid: Grid, plane: str, slab: Slab) -> Place:
    """Return where the picture of a slab lies, whose pixels are as wide as the CT's voxels."""
    down, across, through = view(grid, plane)
    up, left = flips(grid, plane)
    pixel = grid.spacing[across]
    corner = np.zeros(3)
    corner[through] = slab.middle
    corner[across] = grid.shape[across] - 1 if left else 0
    # the first row's centre is half a pixel inside the upper edge of the volume
    first = 0.5 * pixel / grid.spacing[down] - 0.5
    corner[down] = grid.shape[down] - 1 - first if up else first
    axes = grid.directions[:, across] * (-1 if left else 1), grid.directions[:, down] * (-1 if up else 1)
    x, y, z = (float(c) for c in grid.points(corner[None])[0])
    a, b, c, d, e, f = (float(v) for v in np.concatenate(axes))
    thickness = (slab.stop - slab.start) * grid.spacing[through]
    return Place((x, y, z), (a, b, c, d, e, f), pixel, thickness)


def slab_painter(
    analysis: Analysis, ct: Volume, layer: str, plane: str, style: PictureStyle, who: str = ""
) -> Callable[[Slab], Labels]:
    """Return a function that paints a slab as `captures.painter` paints a slice.

    Parameters
    ----------
    analysis : Analysis
    ct : Volume
        The expiratory CT on its own grid.
    layer : str
        One of `captures.LAYERS`.
    plane : {"coronal", "sagittal"}
    style : PictureStyle
    who : str
        Patient and date, written into the legend; "" for none.
    """
    grid = analysis.expiratory
    _, across, through = view(grid, plane)
    legend = strip(analysis, layer, style, grid.shape[across], grid.spacing[across])
    index = working_index(analysis)
    scale = None if layer == "classes" else shown(analysis, layer, style)

    def paint(slab: Slab) -> Labels:
        picture = np.repeat(
            grey(_squared(mean_of(ct.array, through, slab), grid, plane, True))[..., None], 3, axis=2
        )
        if scale is None:
            paint_classes(
                picture,
                _squared(most_frequent(analysis.classes, through, slab), grid, plane).astype(np.uint8),
            )
        else:
            values = _squared(_of_map(analysis.maps[layer], index, through, slab), grid, plane)
            where = np.isfinite(values)
            picture[where] = map_rgb(values[where] / scale.by, layer, scale.top)
        words = f"{_words(analysis, plane, through, slab)}, slab of {_thickness(grid, through, slab):.1f} mm"
        return np.concatenate([write_letters(picture, EDGES[plane]), captioned(legend, words, who)])

    return paint


def _words(analysis: Analysis, plane: str, through: int, slab: Slab) -> str:
    side = ""
    if plane == "sagittal":
        cut = np.take(analysis.lungs, round(slab.middle), axis=through)
        side = "right lung" if (cut == 1).sum() >= (cut == 2).sum() else "left lung"
    return slice_in_words(analysis.expiratory, through, slab.middle, side)


def _thickness(grid: Grid, through: int, slab: Slab) -> float:
    return (slab.stop - slab.start) * grid.spacing[through]


def _part(values: NDArray[Any], axis: int, slab: Slab) -> NDArray[Any]:
    return values[(slice(None),) * axis + (slice(slab.start, slab.stop),)]


def mean_of(values: NDArray[np.generic], axis: int, slab: Slab) -> Float:
    """Return the mean of a slab along the line of sight, float32, of what is finite; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # lines of sight without a value
        out: Float = np.nanmean(_part(values, axis, slab), axis=axis, dtype=np.float32)
    return out


def most_frequent(classes: Labels, axis: int, slab: Slab) -> Labels:
    """Return the most frequent class of every line of sight; 0 where it meets none."""
    part = _part(classes, axis, slab)
    counts = np.stack([(part == c).sum(axis=axis) for c in VQClass if c])
    return np.where(counts.sum(axis=0) > 0, counts.argmax(axis=0) + 1, 0).astype(np.uint8)


def _of_map(values: Float, index: list[NDArray[np.intp]], axis: int, slab: Slab) -> Float:
    """Return the mean of a map of the working grid over a slab, at every line of sight of the CT; NaN for none."""
    inside = index[axis][slab.start : slab.stop]
    inside = inside[inside >= 0]
    rest = [index[n] for n in range(3) if n != axis]
    out: Float = np.full((rest[0].size, rest[1].size), np.nan, dtype=np.float32)
    if not inside.size:
        return out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # lines of sight without a value
        mean = np.nanmean(np.take(values, inside, axis=axis), axis=axis)
    rows, columns = rest[0] >= 0, rest[1] >= 0
    out[np.ix_(rows, columns)] = mean[np.ix_(rest[0][rows], rest[1][columns])]
    return out


def _squared(image: NDArray[np.generic], grid: Grid, plane: str, smooth: bool = False) -> Float:
    """Return a plane in radiological view with pixels as high as wide: of the nearest row, or between two."""
    picture = oriented(image, grid, plane).astype(np.float32)
    down, across, _ = view(grid, plane)
    ratio = grid.spacing[down] / grid.spacing[across]
    rows = max(1, int(picture.shape[0] * ratio + 1e-6))
    at = np.clip((np.arange(rows) + 0.5) / ratio - 0.5, 0, picture.shape[0] - 1)
    if not smooth:
        return np.asarray(picture[np.floor(at + 0.5).astype(np.intp).clip(max=picture.shape[0] - 1)])
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, picture.shape[0] - 1)
    weight = (at - low).astype(np.float32)[:, None]
    return np.asarray(picture[low] * (1 - weight) + picture[high] * weight)
