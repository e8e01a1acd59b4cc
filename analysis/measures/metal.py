"""A CT volume and its lungs -> metal in the body on the lungs' slices, and the share of the lung beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..volume import Labels, Mask, Volume
from .findings import Finding, verdict_of

METAL_HU = 2500  # bone ends near 2000; scanners saturate from 2976 on
MIN_ML = 0.03
OUTSIDE_HU = -600
PIXEL_MM = 2.8  # pixel size on which the body is found
SKIN_MM = 8.0  # an electrode lies on the skin


@dataclass(frozen=True)
class Metal:
    """Hold the metal found in the body.

    Parameters
    ----------
    ml : float
        Its volume, on slices that show lung.
    slices : (int, int)
        The first and the last of those slices, from 0; (0, 0) where there is none.
    lung_percent : float
        Share of the lungs on slices with metal.
    """

    ml: float = 0.0
    slices: tuple[int, int] = (0, 0)
    lung_percent: float = 0.0


def metal(phase: str, found: Metal) -> Finding:
    """Judge whether metal may have streaked the lungs, from `find_metal`."""
    name, limit = f"metal, {phase}", f"warn >= {MIN_ML:g} ml above {METAL_HU} HU beside lung"
    if found.ml < MIN_ML:
        return Finding(name, "pass", found.ml, "ml", limit, f"no metal beside the lungs on {phase}")
    first, last = found.slices[0] + 1, found.slices[1] + 1
    words = (
        f"metal ({found.ml:.2g} ml) on slices {first} to {last} on {phase}: streaks may falsify V and Q in the "
        f"{found.lung_percent:.0f} % of the lungs on slices with metal"
    )
    return Finding(name, verdict_of(False, True), found.ml, "ml", limit, words)


def find_metal(volume: Volume, labels: Labels, factors: tuple[int, int, int]) -> Metal:
    """Find metal deeper than 8 mm under the skin on slices that show lung.

    Parameters
    ----------
    volume : Volume
        The CT's own voxels.
    labels : (k, j, i) uint8
        Lungs on a grid of which one voxel covers ``factors`` voxels of the CT.
    factors : (3,) int
    """
    ml = np.zeros(len(volume.array))
    coarse = [max(1, round(PIXEL_MM / s)) for s in volume.grid.spacing[1:]]
    lung = np.repeat((labels > 0).sum(axis=(1, 2)), factors[0])
    for k in np.flatnonzero(lung).tolist():
        bright = np.argwhere(volume.array[k] > METAL_HU)
        if len(bright):
            body = _under_the_skin(volume, k, coarse)
            j, i = np.minimum(bright // coarse, np.array(body.shape) - 1).T
            ml[k] = float(body[j, i].sum()) * volume.grid.voxel_ml
    if ml.sum() < MIN_ML:
        return Metal(float(ml.sum()))
    at = np.flatnonzero(ml)
    share = 100 * float(lung[at].sum()) / max(float(lung.sum()), 1.0)
    return Metal(float(ml.sum()), (int(at[0]), int(at[-1])), share)


def _under_the_skin(volume: Volume, k: int, coarse: list[int]) -> Mask:
    """Return the body on one slice, lungs included, without its outermost 8 mm; ``coarse`` (j, i) pixels a value."""
    rows, columns = (n // c for n, c in zip(volume.grid.shape[1:], coarse, strict=True))
    pixels = volume.array[k, : rows * coarse[0], : columns * coarse[1]]
    mean = pixels.reshape(rows, coarse[0], columns, coarse[1]).mean(axis=(1, 3))
    pieces, count = ndimage.label(
        ndimage.binary_fill_holes(ndimage.binary_opening(mean > OUTSIDE_HU, iterations=2))
    )
    if not count:
        return np.zeros(mean.shape, dtype=np.bool_)
    body = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    sampling = [c * s for c, s in zip(coarse, volume.grid.spacing[1:], strict=True)]
    return np.asarray(ndimage.distance_transform_edt(np.pad(body, 1), sampling)[1:-1, 1:-1] > SKIN_MM)
