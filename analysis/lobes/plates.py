"""HU -> how much every voxel looks like a thin bright plate, and which way the plate faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from ..anatomy.morphology import Spacing
from ..volume import Float, Mask

SIGMA_MM = 1.2


@dataclass(frozen=True, eq=False)
class Plates:
    """Hold the response of the plate filter.

    Attributes
    ----------
    strength : (z, y, x) float32
        Curvature across the plate less twice that along it, HU/mm²; 0 where nothing looks like a plate.
    normal : (z, y, x, 3) int8
        Unit vector across the plate (z, y, x), times 127; its sign means nothing.
    """

    strength: Float
    normal: NDArray[np.int8]


def plates(hu: Float, inside: Mask, spacing: Spacing) -> Plates:
    """Filter for thin bright plates by the eigenvalues of the Hessian.

    Parameters
    ----------
    hu : (z, y, x) float32
    inside : (z, y, x) bool
        Where to look.
    spacing : (3,) float
        mm along z, y, x.

    Returns
    -------
    Plates

    References
    ----------
    Lassen et al. 2013, doi:10.1109/TMI.2012.2219881, of whose factors one difference of the eigenvalues is made here.
    """
    smooth = ndimage.gaussian_filter(hu, [SIGMA_MM / s for s in spacing], truncate=3)
    return Plates(*_filter(smooth, inside, np.array(spacing, dtype=np.float32)))


@njit(cache=True)
def _filter(f, inside, spacing):  # type: ignore[no-untyped-def]
    nz, ny, nx = f.shape
    strength = np.zeros(f.shape, np.float32)
    normal = np.zeros((nz, ny, nx, 3), np.int8)
    a, b, c = spacing
    for z in range(1, nz - 1):
        for y in range(1, ny - 1):
            for x in range(1, nx - 1):
                if not inside[z, y, x]:
                    continue
                m = 2 * f[z, y, x]
                zz = (f[z + 1, y, x] + f[z - 1, y, x] - m) / (a * a)
                yy = (f[z, y + 1, x] + f[z, y - 1, x] - m) / (b * b)
                xx = (f[z, y, x + 1] + f[z, y, x - 1] - m) / (c * c)
                if min(zz, yy, xx) >= 0:
                    continue
                zy = (f[z + 1, y + 1, x] + f[z - 1, y - 1, x] - f[z + 1, y - 1, x] - f[z - 1, y + 1, x]) / (
                    4 * a * b
                )
                zx = (f[z + 1, y, x + 1] + f[z - 1, y, x - 1] - f[z + 1, y, x - 1] - f[z - 1, y, x + 1]) / (
                    4 * a * c
                )
                yx = (f[z, y + 1, x + 1] + f[z, y - 1, x - 1] - f[z, y + 1, x - 1] - f[z, y - 1, x + 1]) / (
                    4 * b * c
                )
                q = (zz + yy + xx) / 3
                p2 = (zz - q) ** 2 + (yy - q) ** 2 + (xx - q) ** 2 + 2 * (zy * zy + zx * zx + yx * yx)
                p = np.sqrt(p2 / 6)
                if p < 1e-6:
                    continue
                d = (
                    (zz - q) * ((yy - q) * (xx - q) - yx * yx)
                    - zy * (zy * (xx - q) - yx * zx)
                    + zx * (zy * yx - (yy - q) * zx)
                ) / (2 * p * p * p)
                t = np.arccos(min(1.0, max(-1.0, d))) / 3
                low = q + 2 * p * np.cos(t + 2 * np.pi / 3)
                high = q + 2 * p * np.cos(t)
                mid = 3 * q - low - high
                value = -low - 2 * max(abs(mid), abs(high))
                if value <= 0:
                    continue
                strength[z, y, x] = value
                # the eigenvector is across two rows of H - low
                best = 0.0
                r = ((zz - low, zy, zx), (zy, yy - low, yx), (zx, yx, xx - low))
                for i, j in ((0, 1), (0, 2), (1, 2)):
                    u, v = r[i], r[j]
                    nz_ = u[1] * v[2] - u[2] * v[1]
                    ny_ = u[2] * v[0] - u[0] * v[2]
                    nx_ = u[0] * v[1] - u[1] * v[0]
                    size = np.sqrt(nz_ * nz_ + ny_ * ny_ + nx_ * nx_)
                    if size > best:
                        best = size
                        normal[z, y, x, 0] = np.int8(127 * nz_ / size)
                        normal[z, y, x, 1] = np.int8(127 * ny_ / size)
                        normal[z, y, x, 2] = np.int8(127 * nx_ / size)
    return strength, normal
