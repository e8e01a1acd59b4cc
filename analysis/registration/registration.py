"""Two phases and their lungs -> displacement from expiration to inspiration, its Jacobian and its own quality.

Each lung is registered on its own: the fields need not agree across the mediastinum nor at the chest wall,
where lungs slide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np
from scipy import ndimage

from ..errors import Rejected
from ..volume import Float, Grid, Labels, Mask, Volume
from . import kernels
from .lung import FINEST_MM, LEVELS, LungField, LungStack, register_lung
from .refine import agreement

__all__ = ["Registration", "RegistrationQuality", "jacobian", "register", "warp"]

LEAST_J = 0.05  # a field is smoothed where its Jacobian is less
UNFOLD_TURNS = 20


@dataclass(frozen=True)
class RegistrationQuality:
    """Hold how far a displacement field can be trusted, without knowing the truth.

    Attributes
    ----------
    closure : float
        (sum J v - V_moving) / V_moving over the lungs, dimensionless, with J = det(I + du/dx).
    folding : float
        Share of lung voxels with J <= 0.
    inverse_consistency : float
        Mean over the lungs of |u(x) + w(x + u(x))|, mm, where w is the field in the other direction.
    similarity : float
        Mean local correlation of the lungs' textures, -1…1.
    feature_residual : float
        Mean distance (mm) between well-defined features after registration; NaN where there is no texture.
    """

    closure: float
    folding: float
    inverse_consistency: float
    similarity: float
    feature_residual: float


@dataclass(frozen=True, eq=False)
class Registration:
    """Hold a displacement field and how far it can be trusted.

    Attributes
    ----------
    displacement : (k, j, i, 3) float32 on the fixed grid
        u(x), mm, LPS (x, y, z): fixed point x lies at x + u(x) in the moving image. Outside the lungs it is the
        nearest lung's field, continued.
    jacobian : (k, j, i) float32
        det(I + du/dx), more than 0; 1 outside the lungs.
    quality : RegistrationQuality
    back : mapping of int to LungField
        Each lung's field from moving to fixed.
    moving_lungs, moving_grid : (k, j, i) uint8, Grid
    """

    displacement: Float
    jacobian: Float
    quality: RegistrationQuality
    back: Mapping[int, LungField]
    moving_lungs: Labels
    moving_grid: Grid

    @cached_property
    def inverse(self) -> Float:
        """Return the inverse displacement (k, j, i, 3) float32 on the moving grid, mm, LPS; also outside the lungs."""
        fields = {n: field.on(self.moving_grid) for n, field in self.back.items()}
        directions = next(iter(self.back.values())).directions
        return _continued(fields, self.moving_lungs, directions)


def register(
    fixed: Volume,
    fixed_lungs: Labels,
    moving: Volume,
    moving_lungs: Labels,
    progress: Callable[[float], None] = lambda share: None,
    own_voxels: tuple[Volume, Volume] | None = None,
) -> Registration:
    """Register the lungs of two CT volumes by a deformable displacement field.

    Parameters
    ----------
    fixed, moving : Volume
        Expiration and inspiration; any two grids.
    fixed_lungs, moving_lungs : (k, j, i) uint8
        1 right, 2 left.
    progress : callable
        Called with the share of work done, 0…1.
    own_voxels : (Volume, Volume), optional
        `fixed` and `moving` as they were before they were averaged: small vessels are compared in them.

    Raises
    ------
    Rejected
        Where no lung is labelled in both volumes, one volume has a lung that the other lacks, or the labels are not
        on their volume's grid.
    """
    lungs = _common_lungs(fixed, fixed_lungs, moving, moving_lungs)
    images = [volume.coarsen(FINEST_MM) for volume in own_voxels or (fixed, moving)]
    sides = (images[0], fixed_lungs, fixed.grid), (images[1], moving_lungs, moving.grid)
    with ThreadPoolExecutor(2 * len(lungs)) as executor:
        report = _Shares(len(lungs), progress)
        jobs = {
            lung: executor.submit(_one_lung, lung, *sides, executor, report.of(n))
            for n, lung in enumerate(lungs)
        }
        found = {lung: job.result() for lung, job in jobs.items()}
    jac = np.ones(fixed.grid.shape, dtype=np.float32)
    for lung, one in found.items():
        inside = fixed_lungs == lung
        jac[inside] = one.jacobian[inside]
    fields = {lung: one.u for lung, one in found.items()}
    return Registration(
        _continued(fields, fixed_lungs, fixed.grid.directions),
        jac,
        _quality((fixed_lungs, fixed.grid.voxel_ml), (moving_lungs, moving.grid.voxel_ml), jac, found),
        {lung: one.back for lung, one in found.items()},
        moving_lungs,
        moving.grid,
    )


def _continued(fields: Mapping[int, Float], lungs: Labels, directions: np.ndarray) -> Float:
    """Return each lung's field (mm along ``directions``) where that lung is nearest: (k, j, i, 3), mm, LPS."""
    nearest = _nearest_lung(np.where(np.isin(lungs, list(fields)), lungs, 0))
    out = np.zeros((*lungs.shape, 3), dtype=np.float32)
    for lung, u in fields.items():
        out[nearest == lung] = u[nearest == lung] @ directions.T.astype(np.float32)
    return out


def _quality(
    fixed: tuple[Labels, float], moving: tuple[Labels, float], jac: Float, found: Mapping[int, _OneLung]
) -> RegistrationQuality:
    """Compute the quality; ``fixed`` and ``moving`` are labels and the volume of a voxel (mL)."""
    inside, there = (np.isin(labels, list(found)) for labels, _ in (fixed, moving))
    carried_ml = float(jac[inside].sum(dtype=np.float64)) * fixed[1]
    shares = [float((fixed[0] == lung).sum()) for lung in found]

    def mean(values: list[float]) -> float:
        return float(np.average(values, weights=shares))

    return RegistrationQuality(
        closure=carried_ml / (float(there.sum()) * moving[1]) - 1,
        folding=float((jac[inside] <= 0).mean()),
        inverse_consistency=mean([one.inconsistency for one in found.values()]),
        similarity=mean([one.similarity for one in found.values()]),
        feature_residual=mean([one.feature_residual for one in found.values()]),
    )


class _Shares:
    """Combine the progress of several threads into one share."""

    def __init__(self, n: int, progress: Callable[[float], None]) -> None:
        self._shares, self._progress, self._lock = [0.0] * n, progress, Lock()

    def of(self, n: int) -> Callable[[float], None]:
        def report(share: float) -> None:
            with self._lock:
                self._shares[n] = share
                self._progress(sum(self._shares) / len(self._shares))

        return report


@dataclass(frozen=True, eq=False)
class _OneLung:
    """Hold a lung's displacement on the fixed grid (mm along its axes), Jacobian, field back and quality."""

    u: Float
    jacobian: Float
    back: LungField
    inconsistency: float
    similarity: float
    feature_residual: float


def _one_lung(
    lung: int,
    fixed: tuple[Volume, Labels, Grid],
    moving: tuple[Volume, Labels, Grid],
    executor: Executor,
    progress: Callable[[float], None],
) -> _OneLung:
    """Register the lung of two images whose labels lie on a grid of their own."""
    _, labels, grid = fixed
    directions = grid.directions
    f, m = (LungStack.of(image, own == lung, on, directions) for image, own, on in (fixed, moving))
    forward, backward = register_lung(f, m, directions, executor, progress)
    offset = ((f.origins[-1] - m.origins[-1]) / FINEST_MM).astype(np.float32)
    u = (forward.u / FINEST_MM).astype(np.float32)
    similarity, residual = agreement(f.levels[-1], m.levels[-1], offset, u, LEVELS[-1].radius)
    displacement, jac = unfold(forward.on(grid), labels == lung, grid.spacing)
    return _OneLung(
        displacement,
        jac,
        backward,
        _inconsistency(forward, backward, f),
        similarity,
        residual * FINEST_MM,
    )


def unfold(u: Float, inside: Mask, spacing: tuple[float, float, float]) -> tuple[Float, Float]:
    """Smooth a field around the voxels of ``inside`` whose Jacobian is below `LEAST_J`, until there are none.

    Parameters
    ----------
    u : (k, j, i, 3) float32
        Displacement, mm along the grid's own axes.
    inside : (k, j, i) bool
    spacing : (3,) float
        mm along k, j, i.

    Returns
    -------
    u : (k, j, i, 3) float32
    jacobian : (k, j, i) float32
        Its Jacobian.
    """
    jac = jacobian(u, spacing)
    sigma = [2 * max(spacing) / s for s in spacing]
    for turn in range(UNFOLD_TURNS):
        folds = inside & (jac < LEAST_J)
        if not folds.any():
            break
        near = ndimage.distance_transform_edt(~folds, sampling=spacing) / ((4 + turn) * max(spacing))
        weight = np.clip(2 - 2 * near, 0, 1)[..., None].astype(np.float32)
        smooth = np.stack([ndimage.gaussian_filter(u[..., c], sigma) for c in range(3)], axis=-1)
        u = u + weight * (smooth - u)
        jac = jacobian(u, spacing)
    return u, jac


def jacobian(u: Float, spacing: tuple[float, float, float]) -> Float:
    """Return det(I + du/dx) by central differences.

    Parameters
    ----------
    u : (k, j, i, 3) float32
        Displacement, mm along the grid's own axes (k, j, i).
    spacing : (3,) float
        mm along k, j, i.

    Returns
    -------
    (k, j, i) float32
    """
    d = [list(np.gradient(u[..., c], *spacing)) for c in range(3)]
    for c in range(3):
        d[c][c] += 1
    (a, b, c), (e, f, g), (h, i, j) = d
    return a * (f * j - g * i) - b * (e * j - g * h) + c * (e * i - f * h)


def warp(volume: Volume, grid_points: Float) -> Float:
    """Return HU of ``volume`` at LPS points (…, 3) in mm, trilinear; edges extend.

    Returns
    -------
    (…) float32
    """
    index = volume.grid.indices(grid_points.reshape(-1, 3).astype(np.float64)).astype(np.float32)
    image = np.asarray(volume.array, dtype=np.float32)
    return kernels.sample(image, index).reshape(grid_points.shape[:-1])


def _common_lungs(fixed: Volume, fixed_lungs: Labels, moving: Volume, moving_lungs: Labels) -> list[int]:
    for phase, volume, labels in (("expiration", fixed, fixed_lungs), ("inspiration", moving, moving_lungs)):
        if labels.shape != volume.grid.shape:
            raise Rejected(f"the lungs' labels have shape {labels.shape}, {phase} has {volume.grid.shape}")
    names = {1: "right", 2: "left"}
    present = {lung: ((fixed_lungs == lung).any(), (moving_lungs == lung).any()) for lung in names}
    for lung, (in_fixed, in_moving) in present.items():
        if in_fixed != in_moving:
            where = "expiration" if in_fixed else "inspiration"
            raise Rejected(f"the {names[lung]} lung was found only in {where}")
    lungs = [lung for lung, both in present.items() if all(both)]
    if not lungs:
        raise Rejected("no lung was found in either phase")
    return lungs


def _nearest_lung(lungs: Labels) -> Labels:
    where = ndimage.distance_transform_edt(lungs == 0, return_distances=False, return_indices=True)
    return lungs[tuple(where)]


def _inconsistency(forward: LungField, backward: LungField, fixed: LungStack) -> float:
    inside: Mask = fixed.levels[-1].inside > 0
    x = np.argwhere(inside)[::7] * fixed.spacings[-1] + fixed.origins[-1]
    u = forward.at(x)
    return float(np.linalg.norm(u + backward.at(x + u), axis=1).mean())
