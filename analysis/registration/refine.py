"""Two images of one lung and a start -> displacement: Gauss-Newton on a control grid, coarse to fine.

Similarity: local correlation (LCC), which a change of mass or of air does not disturb; never a mass-preserving
measure, which would erase perfusion. Regulariser: second differences (bending, which leaves every affine motion free)
and a little of the first, with a free border, so that each lung slides along the chest wall (Rühaak 2017,
doi:10.1109/TMI.2017.2691259; Vishnevskiy 2017, doi:10.1109/TMI.2016.2610583).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..volume import Float, Mask
from . import kernels
from .solver import Nodes, solve

TISSUE_HU = -300.0  # intensities are clipped to air … tissue: what is denser holds no lung texture
CG_ITERATIONS = 25
RIM = 1.0  # voxels at the lung's surface whose brightness is the chest wall's: not compared
BAND = 1.0  # voxels from the surface where the borders are matched; further in, lung stretches
FEATURES = 0.1  # share of the nodes that count as features
NOISE_HU = 25.0  # standard deviation that counts as noise
TEXTURE = 0.05  # mean local variance, in units of itself and the noise's; real lungs have 0.5, less is none


@dataclass(frozen=True, eq=False)
class LungImage:
    """Hold one lung of one phase on an isotropic grid.

    Attributes
    ----------
    image : (k, j, i) float32
        HU, clipped, relative to -800.
    inside : (k, j, i) float32
        1 in the lung but for its outermost voxels, which the chest wall blurs into.
    border : (k, j, i) float32
        Signed distance to the lung's surface, voxels, positive inside, clipped at ±4.
    """

    image: Float
    inside: Float
    border: Float

    @classmethod
    def of(cls, hu: Float, mask: Mask) -> LungImage:
        """Make the image from HU and the lung's mask, both (k, j, i)."""
        image = (np.clip(hu, -1000, TISSUE_HU) + 800).astype(np.float32)
        border = np.where(mask, _distance(~mask) - 0.5, 0.5 - _distance(mask))
        return cls(image, (border > RIM).astype(np.float32), np.clip(border, -4, 4).astype(np.float32))


@dataclass(frozen=True)
class Level:
    """Hold the settings of one resolution of the refinement; lengths in voxels of the level."""

    steps: int
    searches: int = 0
    radius: int = 3
    stretch: float = 0.01
    bending: float = 1.5
    robust: float = 1.0
    border: float = 0.5


def node_shape(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the number of control nodes along k, j, i for a level of ``shape`` voxels."""
    k, j, i = ((n + kernels.STRIDE - 1) // kernels.STRIDE + 1 for n in shape)
    return k, j, i


def refine(
    fixed: LungImage, moving: LungImage, offset: Float, start: Float, level: Level, nodes: Float
) -> Float:
    """Refine a field by Gauss-Newton steps at one level.

    Parameters
    ----------
    fixed, moving : LungImage
        Same spacing and axes.
    offset : (3,) float32
        Moving index of fixed index 0 without displacement, voxels (k, j, i).
    start : (K, J, I, 3) float32
        Affine start at the control nodes, voxels: not regularised.
    level : Level
    nodes : (K, J, I, 3) float32
        Field so far, affine start included.

    Returns
    -------
    (K, J, I, 3) float32
        Refined field at the control nodes, voxels.
    """
    f = kernels.standardise(fixed.image, fixed.inside, level.radius, NOISE_HU**2)
    near = (np.abs(fixed.border) < BAND).astype(np.float32)
    where = fixed.border > -BAND
    near_lung = Nodes.of(_active(fixed.inside > 0, start.shape[:3]))
    residual = nodes - start
    for _ in range(level.steps):
        image, inside, border = kernels.carry(
            moving.image, moving.inside, moving.border, where, offset, start + residual
        )
        weight = fixed.inside * inside
        m = kernels.standardise(image, weight, level.radius, NOISE_HU**2)
        system = kernels.assemble(
            f, m, weight, fixed.border, border, near, np.float32(level.robust), np.float32(level.border)
        )
        step = solve(system, residual, near_lung, level.stretch, level.bending, CG_ITERATIONS)
        residual = residual + np.clip(step, -1.5, 1.5)
    return start + residual


def agreement(
    fixed: LungImage, moving: LungImage, offset: Float, u: Float, radius: int
) -> tuple[float, float]:
    """Measure how well a field matches two images, from the images alone.

    Parameters
    ----------
    fixed, moving : LungImage
    offset : (3,) float32
        Moving index of fixed index 0 without displacement, voxels.
    u : (k, j, i, 3) float32
        Displacement on the grid of `fixed`, voxels.
    radius : int
        Half width of the standardising cube, voxels.

    Returns
    -------
    similarity : float
        Mean local correlation over the lung, -1…1; 0 where there is no texture.
    feature_residual : float
        Mean length, in voxels, of the step that each well-defined feature alone would still take (Lucas and Kanade
        1981): features are the nodes whose surroundings tell all three directions best (Shi and Tomasi 1994,
        doi:10.1109/CVPR.1994.323794). NaN where there is no texture.
    """
    weight = fixed.inside * kernels.warp(moving.inside, offset, u)
    f = kernels.standardise(fixed.image, weight, radius, NOISE_HU**2)
    m = kernels.standardise(kernels.warp(moving.image, offset, u), weight, radius, NOISE_HU**2)
    scale = float((weight * (f**2 + m**2)).sum())
    if scale <= 2 * TEXTURE * float(weight.sum()):
        return 0.0, float("nan")
    similarity = 1 - float((weight * (f - m) ** 2).sum()) / scale
    none = np.zeros_like(weight)
    system = kernels.assemble(f, m, weight, none, none, none, np.float32(1), np.float32(0))
    sums = 27 * ndimage.uniform_filter(system, (3, 3, 3, 1), np.float64, mode="constant")
    sums = sums[fixed.inside[:: kernels.STRIDE, :: kernels.STRIDE, :: kernels.STRIDE].nonzero()]
    tensors = sums[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    weakest = np.linalg.eigvalsh(tensors)[:, 0]
    best = weakest >= max(float(np.quantile(weakest, 1 - FEATURES)), 1e-6)
    steps = np.linalg.solve(tensors[best], sums[best, 6:, None])[..., 0]
    return similarity, float(np.linalg.norm(steps, axis=1).mean())


def _distance(mask: Mask) -> Float:
    """Return the distance (voxels) from every voxel outside ``mask`` to it."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    signed = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=False)
    return np.asarray(sitk.GetArrayFromImage(signed), dtype=np.float32)


def _active(mask: Mask, shape: tuple[int, int, int]) -> Mask:
    """Return the nodes within two control steps of the lung."""
    grown = ndimage.binary_dilation(mask, iterations=2 * kernels.STRIDE)
    coarse = grown[:: kernels.STRIDE, :: kernels.STRIDE, :: kernels.STRIDE]
    pad = [(0, n - c) for n, c in zip(shape, coarse.shape, strict=True)]
    return np.pad(coarse, pad, mode="edge")
