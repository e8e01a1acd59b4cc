"""A map and its mask -> its local means: Gaussians that see nothing outside the mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    mean = _mean(mask, spacing, sigma_mm, certainty)
    return tuple(mean(f) for f in maps)


def twiced_gaussian(
    maps: Sequence[Float],
    mask: Mask,
    spacing: tuple[float, float, float],
    sigma_mm: float,
    certainty: Float | None = None,
) -> tuple[Float, ...]:
    """Return masked Gaussian means g, with what the mean took away averaged and given back: g(f) + g(f - g(f)).

    Twicing (Tukey 1977; as L2 boosting, Buehlmann and Yu 2003, doi:10.1198/016214503000125) makes of the
    Gaussian a kernel of fourth order: what it takes off a defect's rim and core falls with sigma to the fourth instead
    of the second power, and a slope along the mask's border is kept. Noise of voxels is what a plain Gaussian of
    ``sigma_mm / 1.3`` leaves.

    Parameters
    ----------
    maps, mask, spacing, sigma_mm, certainty
        As of `masked_gaussian`.

    Returns
    -------
    tuple of (k, j, i) float32
        One smoothed map each; 0 outside the mask.
    """
    mean = _mean(mask, spacing, sigma_mm, certainty)
    once = [mean(f) for f in maps]
    return tuple(g + mean(f - g) for f, g in zip(maps, once, strict=True))


def _mean(
    mask: Mask, spacing: tuple[float, float, float], sigma_mm: float, certainty: Float | None
) -> Callable[[Float], Float]:
    """Return the function that averages a map."""
    sigmas = [sigma_mm / s for s in spacing]

    def smooth(values: Float) -> Float:
        return ndimage.gaussian_filter(values, sigmas, mode="constant", truncate=3.0)

    w = np.where(mask, np.float32(1) if certainty is None else certainty, np.float32(0))
    weight = smooth(w)
    weight[~mask] = np.inf
    return lambda f: smooth(np.where(mask, w * f, np.float32(0))) / weight
