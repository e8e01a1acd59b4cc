"""A map and its mask -> the local mean: a Gaussian that sees nothing outside the mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..volume import Float, Mask


def masked_gaussian(
    maps: Sequence[Float], mask: Mask, spacing: tuple[float, float, float], sigma_mm: float
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

    Returns
    -------
    tuple of (k, j, i) float32
        One smoothed map each; 0 outside the mask.
    """
    sigmas = [sigma_mm / s for s in spacing]

    def smooth(values: Float) -> Float:
        return ndimage.gaussian_filter(values, sigmas, mode="constant", truncate=3.0)

    weight = smooth(mask.astype(np.float32))
    weight[~mask] = np.inf
    return tuple(smooth(np.where(mask, f, np.float32(0))) / weight for f in maps)
