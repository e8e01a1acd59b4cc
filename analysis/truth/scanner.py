"""How the made phase of a twin is acquired: its grid, kernel and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from ..volume import Grid, Volume

#: What keeps its density as the lung changes its volume, see `Look.vessels`.
Vessels = Literal["dense", "share"]


@dataclass(frozen=True)
class Look:
    """Hold how the made phase is acquired, and its physiology.

    Parameters
    ----------
    slice_mm : float
        Slice spacing of the made phase.
    pixel_ratio : float
        Its pixel over the real CT's pixel.
    blur_mm : float
        Gaussian of the made phase's kernel in the slice; negative sharpens.
    noise_hu, noise_pixels : float
        Standard deviation of the noise added, and its correlation length in pixels.
    blood : float
        Mean m of healthy lung, g/mL.
    variety : float
        How much of the real unevenness of ventilation is kept outside the defects: 0 none, 1 all.
    vessels : {"dense", "share"}
        What keeps its density as the lung changes its volume: tissue denser than -300 HU (all of it from -100 HU on),
        or the share of blood in every voxel, from its excess over the tissue around (`analysis.truth.vessels`).
    """

    slice_mm: float = 2.5
    pixel_ratio: float = 1.07
    blur_mm: float = 0.6
    noise_hu: float = 18.0
    noise_pixels: float = 0.8
    blood: float = 0.038
    variety: float = 0.5
    vessels: Vessels = "dense"


def made_grid(grid: Grid, look: Look) -> Grid:
    """Return the same field of view with another slice spacing and pixel size."""
    ratios = np.array([look.slice_mm / grid.spacing[0], look.pixel_ratio, look.pixel_ratio])
    shape = [int(n / r) for n, r in zip(grid.shape, ratios, strict=True)]
    affine = grid.affine.copy()
    affine[:3, :3] = affine[:3, :3] * ratios
    affine[:3, 3] = grid.points(np.array([ratios / 2 - 0.5]))[0]
    return Grid((shape[0], shape[1], shape[2]), affine)


def scan(volume: Volume, look: Look, rng: np.random.Generator) -> Volume:
    """Apply kernel and noise of the made phase; int16."""
    pixel = volume.grid.spacing[1]
    hu = np.asarray(volume.array, dtype=np.float32)
    soft = ndimage.gaussian_filter(hu, (0, abs(look.blur_mm) / pixel, abs(look.blur_mm) / pixel))
    hu = soft if look.blur_mm >= 0 else 2 * hu - soft
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0.4, look.noise_pixels, look.noise_pixels))
    hu += noise * np.float32(look.noise_hu / max(float(noise[::7].std()), 1e-9))
    return Volume(np.clip(np.rint(hu), -1024, 3071).astype(np.int16), volume.grid)
