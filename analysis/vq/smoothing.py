"""A map and its mask -> the local mean: a Gaussian that sees nothing outside the mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..volume import Float, Mask


def masked_gaussian(
    maps: Sequence[Float],
    mask: Mask,
    spacing: tuple[float, float, float],
    sigma_mm: float,
    certainty: Float | None = None,
) -> tuple[Float, ...]:
    """Return mask-normalised Gaussian means G*(w f) / G*w (normalised convolution, Knutsson 1993).

    Parameters
    ----------
    maps : sequence of (k, j, i) float32
    mask : (k, j, i) bool
        Where the maps are valid.
    spacing : (3,) float
        mm along k, j, i.
    sigma_mm : float
        Standard deviation of the Gaussian, mm.
    certainty : (k, j, i) float32, optional
        w of the voxels of ``mask``, more than 0; 1 everywhere without it.

    Returns
    -------
    tuple of (k, j, i) float32
        One smoothed map each; 0 outside the mask.
    """
    sigmas = [sigma_mm / s for s in spacing]

    def smooth(values: Float) -> Float:
        return ndimage.gaussian_filter(values, sigmas, mode="constant", truncate=3.0)

    w = np.where(mask, np.float32(1) if certainty is None else certainty, np.float32(0))
    weight = smooth(w)
    weight[~mask] = np.inf
    return tuple(smooth(np.where(mask, w * f, np.float32(0))) / weight for f in maps)
