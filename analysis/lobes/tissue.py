"""One lung of a CT -> what a fissure is looked for in: plates, vessels, and the way to the nearest vessel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..anatomy.morphology import Spacing, dilate, erode, pieces
from ..volume import Float, Mask
from .plates import plates

GRID_MM = 1.25
HU_RANGE = (-1000.0, -450.0)  # a fissure's; brighter is a vessel
VESSEL_HU = -600.0
VESSEL_MM3 = 40.0
RIM_MM = 2.5
WALL_MM = 1.25  # around vessels, whose walls look like plates
WHOLE = 96.0  # percentile of the response away from vessels that counts as a plate for certain


@dataclass(frozen=True, eq=False)
class Tissue:
    """Hold one lung, all (z, y, x) on one grid of about `GRID_MM`: z up, y back, x left.

    Attributes
    ----------
    lung : bool
    strength : float32
        How much a voxel looks like a plate, 0…1; 0 at vessels and at the pleura.
    normal : (z, y, x, 3) int8
        Unit vector across the plate, times 127.
    vessels : bool
    away : float32
        Distance to the nearest vessel, mm.
    spacing : (3,) float
        mm along z, y, x.
    """

    lung: Mask
    strength: Float
    normal: NDArray[np.int8]
    vessels: Mask
    away: Float
    spacing: Spacing

    @classmethod
    def of(cls, hu: Float, lung: Mask, spacing: Spacing) -> Tissue:
        """Filter one lung.

        Parameters
        ----------
        hu : (z, y, x) float32
        lung : (z, y, x) bool
        spacing : (3,) float
            mm along z, y, x.
        """
        vessels = _vessels(hu, lung, spacing)
        found = plates(np.clip(hu, *HU_RANGE), erode(lung, RIM_MM, spacing), spacing)
        free = lung & ~dilate(vessels, WALL_MM, spacing)
        whole = max(float(np.percentile(found.strength[free], WHOLE)), 1e-3) if free.any() else 1.0
        strength = np.where(free, np.minimum(found.strength / np.float32(whole), 1), np.float32(0))
        away = ndimage.distance_transform_edt(~vessels, spacing).astype(np.float32)
        return cls(lung, strength, found.normal, vessels, away, spacing)

    @property
    def voxel_mm3(self) -> float:
        """Return the volume of a voxel, mm³."""
        return float(np.prod(self.spacing))

    def facing(self, normal: NDArray[np.float64], least: float, full: float) -> Float:
        """Return the strength of plates, in full from a cosine of ``full`` to ``normal``, none to ``least``."""
        cosine = np.abs(self.normal @ (normal / 127).astype(np.float32))
        return np.asarray(self.strength * np.clip((cosine - least) / (full - least), 0, 1))


def _vessels(hu: Float, lung: Mask, spacing: Spacing) -> Mask:
    """Return what is dense in a lung: vessels, walls of airways, disease."""
    smooth = ndimage.gaussian_filter(hu, [1.0 / s for s in spacing], truncate=3)
    labels, sizes = pieces(lung & (smooth > VESSEL_HU))
    return np.asarray((sizes * float(np.prod(spacing)) >= VESSEL_MM3)[labels])


def resampled(hu: NDArray[np.int16] | Float, spacing: Spacing) -> tuple[Float, Spacing]:
    """Average and interpolate (z, y, x) to about `GRID_MM`, from the same corner; also return the new spacing."""
    factors = [max(1, int(1.15 * GRID_MM / s)) for s in spacing]
    (a, k), (b, j), (c, i) = [(n // f, f) for n, f in zip(hu.shape, factors, strict=True)]
    blocks = hu[: a * k, : b * j, : c * i].reshape(a, k, b, j, c, i).mean(axis=(1, 3, 5), dtype=np.float32)
    wide = [s * f for s, f in zip(spacing, factors, strict=True)]
    shape = [max(2, round(n * s / GRID_MM)) for n, s in zip(blocks.shape, wide, strict=True)]
    zoom = [m / n for m, n in zip(shape, blocks.shape, strict=True)]
    out = ndimage.zoom(blocks, zoom, order=3, mode="nearest", grid_mode=True)
    z, y, x = (s * n / m for s, n, m in zip(wide, blocks.shape, out.shape, strict=True))
    return np.asarray(out, dtype=np.float32), (z, y, x)
