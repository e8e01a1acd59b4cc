"""One lung of two phases -> its displacement field, coarse to fine, from the masks' moments on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..volume import Float, Grid, Mask, Volume
from . import kernels
from .refine import Level, LungImage, node_shape, refine
from .search import search

FINEST_MM = 1.25
MARGIN_MM = 16.0
LEVELS = (
    Level(steps=10, searches=2, bending=6.0),
    Level(steps=7, searches=2, bending=3.0, border=0.2),
    Level(steps=4, bending=3.0, border=0.2),
)  # coarse to fine, each done TURNS times
TURNS = 3


@dataclass(frozen=True, eq=False)
class LungStack:
    """Hold one lung of one phase at every level of the pyramid, coarse to fine.

    Attributes
    ----------
    levels : tuple of LungImage
    spacings : tuple of float
        mm, isotropic.
    origins : tuple of (3,) float64
        Place of voxel (0, 0, 0), mm along the directions of the *fixed* grid (k, j, i).
    """

    levels: tuple[LungImage, ...]
    spacings: tuple[float, ...]
    origins: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, image: Volume, mask: Mask, grid: Grid, directions: NDArray[np.float64]) -> LungStack:
        """Crop a lung (``mask`` on ``grid``), resample it isotropically along ``directions``, halve it per level."""
        hu, mask, origin = _isotropic(image, mask, grid, directions)
        images, spacings, origins = [LungImage.of(hu, mask)], [FINEST_MM], [origin]
        for _ in LEVELS[1:]:
            hu, mask = _halve(hu), _halve(mask.astype(np.float32)) > 0.5
            origin = origin + spacings[-1] / 2
            images.append(LungImage.of(hu, mask))
            spacings.append(spacings[-1] * 2)
            origins.append(origin)
        return cls(tuple(images[::-1]), tuple(spacings[::-1]), tuple(origins[::-1]))


def _halve(values: Float) -> Float:
    k, j, i = (n // 2 for n in values.shape)
    blocks = values[: 2 * k, : 2 * j, : 2 * i].reshape(k, 2, j, 2, i, 2)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def _isotropic(
    image: Volume, mask: Mask, grid: Grid, directions: NDArray[np.float64]
) -> tuple[Float, Mask, NDArray[np.float64]]:
    """Resample the lung's box on an isotropic grid whose axes are ``directions``; origin in mm along them."""
    bounds = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    corners = np.array(np.meshgrid(*[(b[0], b[-1]) for b in bounds], indexing="ij"), dtype=np.float64)
    along = grid.points(corners.reshape(3, -1).T) @ directions
    low = along.min(axis=0) - MARGIN_MM
    coarsest = 2 ** (len(LEVELS) - 1)
    size = np.ceil((along.max(axis=0) + MARGIN_MM - low) / (FINEST_MM * coarsest)).astype(int) * coarsest
    shape = (int(size[0]), int(size[1]), int(size[2]))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions * FINEST_MM, directions @ low
    box = Grid(shape, affine)
    hu = _resample(np.asarray(image.array, np.float32), image.grid, box, "constant", -1000.0)
    return hu, _resample(mask.astype(np.float32), grid, box, "constant") > 0.5, low


def _resample(values: Float, grid: Grid, onto: Grid, mode: str, outside: float = 0.0) -> Float:
    """Return the interpolated values of an image on another grid."""
    matrix = np.linalg.inv(grid.affine[:3, :3]) @ onto.affine[:3, :3]
    offset = grid.indices(onto.affine[None, :3, 3])[0]
    aligned = np.abs(matrix - np.diag(np.diag(matrix))).max() < 1e-9
    return ndimage.affine_transform(
        values,
        np.diag(matrix) if aligned else matrix,
        offset,
        onto.shape,
        np.float32,
        order=1,
        mode=mode,
        cval=outside,
    )


@dataclass(frozen=True, eq=False)
class LungField:
    """Hold the displacement of one lung on its finest isotropic grid.

    Attributes
    ----------
    u : (k, j, i, 3) float32
        mm along `directions` (k, j, i).
    origin : (3,) float64
        Place of voxel (0, 0, 0), mm along `directions`.
    directions : (3, 3) float64
        Unit vectors of k, j, i in LPS, as columns.
    """

    u: Float
    origin: NDArray[np.float64]
    directions: NDArray[np.float64]

    def at(self, points: NDArray[np.float64]) -> Float:
        """Return displacement (n, 3), mm along `directions`, of ``points`` (n, 3) given along them; edges extend."""
        index = ((points - self.origin) / FINEST_MM).astype(np.float32)
        parts = [kernels.sample(np.ascontiguousarray(self.u[..., c]), index) for c in range(3)]
        return np.stack(parts, axis=-1)

    def on(self, grid: Grid) -> Float:
        """Return the displacement (k, j, i, 3) on any grid; mm along `directions`."""
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = self.directions * FINEST_MM, self.directions @ self.origin
        own = Grid(self.u.shape[:3], affine)
        return np.stack([_resample(self.u[..., c], own, grid, "nearest") for c in range(3)], axis=-1)


def register_lung(
    fixed: LungStack,
    moving: LungStack,
    directions: NDArray[np.float64],
    executor: Executor,
    progress: Callable[[float], None],
) -> tuple[LungField, LungField]:
    """Register one lung both ways at once: after every few steps each field is averaged with the other's inverse.

    Parameters
    ----------
    fixed, moving : LungStack
    directions : (3, 3) float64
        Axes of both stacks.
    executor : concurrent.futures.Executor
        Provides threads; the field back is refined in one of them.
    progress : callable
        Called with the share of work done, 0…1.

    Returns
    -------
    (LungField, LungField)
        Fixed to moving, and back.
    """
    there: Float | None = None
    back: Float | None = None
    for n, level in enumerate(LEVELS):
        f, m = fixed.levels[n], moving.levels[n]
        offset = ((fixed.origins[n] - moving.origins[n]) / fixed.spacings[n]).astype(np.float32)
        start = moments_start(f.inside, m.inside, offset)
        start_back = moments_start(m.inside, f.inside, -offset)
        there = start if there is None else start + _double(there, start.shape[:3])
        back = start_back if back is None else start_back + _double(back, start_back.shape[:3])
        for _ in range(level.searches):
            found = executor.submit(search, m, f, -offset, back, level.radius)
            there, back = search(f, m, offset, there, level.radius), found.result()
            there, back = symmetrise(there, back, offset)
        for turn in range(TURNS):
            other_way = executor.submit(refine, m, f, -offset, start_back, level, back)
            there, back = refine(f, m, offset, start, level, there), other_way.result()
            there, back = symmetrise(there, back, offset)
            progress(8.0 ** (n - len(LEVELS)) * (1 + 7 * (turn + 1) / TURNS))
        if n < len(LEVELS) - 1:
            there, back = there - start, back - start_back
    assert there is not None
    assert back is not None
    return _field(there, fixed, directions), _field(back, moving, directions)


def _field(nodes: Float, stack: LungStack, directions: NDArray[np.float64]) -> LungField:
    dense = kernels.densify(nodes, np.array(stack.levels[-1].inside.shape))
    return LungField(dense * np.float32(FINEST_MM), stack.origins[-1], directions)


def symmetrise(there: Float, back: Float, offset: Float) -> tuple[Float, Float]:
    """Average each field with the inverse of the other (inverse consistency, Christensen 2001, doi:10.1109/42.932742).

    Parameters
    ----------
    there, back : (K, J, I, 3) float32
        Fields at the control nodes, voxels.
    offset : (3,) float32
        Moving index of fixed index 0 without displacement.
    """
    return kernels.mean_with_inverse(there, back, offset), kernels.mean_with_inverse(back, there, -offset)


def moments_start(fixed: Float, moving: Float, offset: Float) -> Float:
    """Return the control nodes' displacement that makes the masks' means and standard deviations equal.

    Parameters
    ----------
    fixed, moving : (k, j, i) float32
        Masks, 0…1.
    offset : (3,) float32
        Moving index of fixed index 0 without displacement.

    Returns
    -------
    (K, J, I, 3) float32
        Voxels.
    """
    f, m = np.argwhere(fixed > 0.5), np.argwhere(moving > 0.5)
    scale = m.std(axis=0) / f.std(axis=0)
    axes = [np.arange(n) * kernels.STRIDE for n in node_shape(fixed.shape)]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return (m.mean(axis=0) + scale * (x - f.mean(axis=0)) - offset - x).astype(np.float32)


def _double(nodes: Float, shape: tuple[int, int, int]) -> Float:
    """Carry a field of voxels to the nodes of the next finer level."""
    axes = [((np.arange(n) * kernels.STRIDE + 0.5) / 2 - 0.5) / kernels.STRIDE for n in shape]
    where = np.meshgrid(*axes, indexing="ij")
    parts = [
        ndimage.map_coordinates(nodes[..., c], where, np.float32, order=1, mode="nearest") for c in range(3)
    ]
    return 2 * np.stack(parts, axis=-1)
