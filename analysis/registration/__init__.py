"""Two phases and their lungs -> displacement from expiration to inspiration, its Jacobian and its own quality.

Each lung is registered on its own: the fields need not agree across the mediastinum nor at the chest wall,
where lungs slide.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
from scipy import ndimage

from ..errors import Rejected
from ..volume import Float, Labels, Mask, Volume
from . import kernels
from .lung import LungField, LungStack, register_lung

__all__ = ["Registration", "jacobian", "register", "warp"]


@dataclass(frozen=True, eq=False)
class Registration:
    """A displacement field and how far it can be trusted.

    Attributes
    ----------
    displacement : (k, j, i, 3) float32 on the fixed grid
        u(x), mm, LPS (x, y, z): fixed point x lies at x + u(x) in the moving image. Outside the lungs it is the
        nearest lung's field, continued.
    jacobian : (k, j, i) float32
        det(I + du/dx); 1 outside the lungs.
    closure : float
        (sum J v - V_moving) / V_moving over the lungs, 1.
    folding : float
        Share of lung voxels with J <= 0.
    inverse_consistency : float
        Mean over the lungs of |u(x) + w(x + u(x))|, mm, w registered the other way.
    """

    displacement: Float
    jacobian: Float
    closure: float
    folding: float
    inverse_consistency: float


def register(
    fixed: Volume,
    fixed_lungs: Labels,
    moving: Volume,
    moving_lungs: Labels,
    progress: Callable[[float], None] = lambda share: None,
) -> Registration:
    """Deformable registration of the lungs of two CT volumes.

    Parameters
    ----------
    fixed, moving : Volume
        Expiration and inspiration; any two grids.
    fixed_lungs, moving_lungs : (k, j, i) uint8
        1 right, 2 left.
    progress : callable
        Called with the share of work done, 0…1.

    Raises
    ------
    Rejected
        Where no lung is labelled in both volumes, or one volume has a lung that the other lacks.
    """
    lungs = _common_lungs(fixed_lungs, moving_lungs)
    directions = fixed.grid.directions
    displacement = np.zeros((*fixed.grid.shape, 3), dtype=np.float32)
    jac = np.ones(fixed.grid.shape, dtype=np.float32)
    nearest = _nearest_lung(fixed_lungs)
    inconsistency = 0.0
    with ThreadPoolExecutor(2 * len(lungs)) as executor:
        report = _Shares(len(lungs), progress)
        jobs = [
            executor.submit(
                _one_lung, fixed, fixed_lungs == lung, moving, moving_lungs == lung, executor, report.of(n)
            )
            for n, lung in enumerate(lungs)
        ]
        fields = [job.result() for job in jobs]
    for lung, (u, missed) in zip(lungs, fields, strict=True):
        inside = fixed_lungs == lung
        inconsistency += missed * float(inside.sum())
        jac[inside] = jacobian(u, fixed.grid.spacing)[inside]
        displacement[nearest == lung] = u[nearest == lung] @ directions.T.astype(np.float32)
    inside = np.isin(fixed_lungs, lungs)
    moving_ml = float(np.isin(moving_lungs, lungs).sum()) * moving.grid.voxel_ml
    carried_ml = float(jac[inside].sum(dtype=np.float64)) * fixed.grid.voxel_ml
    return Registration(
        displacement,
        jac,
        closure=carried_ml / moving_ml - 1,
        folding=float((jac[inside] <= 0).mean()),
        inverse_consistency=inconsistency / float(inside.sum()),
    )


class _Shares:
    """The progress of several threads as one share."""

    def __init__(self, n: int, progress: Callable[[float], None]) -> None:
        self._shares, self._progress, self._lock = [0.0] * n, progress, Lock()

    def of(self, n: int) -> Callable[[float], None]:
        def report(share: float) -> None:
            with self._lock:
                self._shares[n] = share
                self._progress(sum(self._shares) / len(self._shares))

        return report


def _one_lung(
    fixed: Volume,
    inside: Mask,
    moving: Volume,
    there: Mask,
    executor: Executor,
    progress: Callable[[float], None],
) -> tuple[Float, float]:
    """Displacement on the fixed grid, mm along its axes, and the mean inverse inconsistency, mm."""
    directions = fixed.grid.directions
    stacks = (
        LungStack.of(np.asarray(fixed.array, np.float32), inside, fixed.grid, directions),
        LungStack.of(np.asarray(moving.array, np.float32), there, moving.grid, directions),
    )
    forward, backward = register_lung(*stacks, directions, executor, progress)
    return forward.on(fixed.grid), _inconsistency(forward, backward, stacks[0])


def jacobian(u: Float, spacing: tuple[float, float, float]) -> Float:
    """det(I + du/dx) by central differences.

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
    """HU of ``volume`` at LPS points (…, 3) in mm, trilinear; edges extend.

    Returns
    -------
    (…) float32
    """
    index = volume.grid.indices(grid_points.reshape(-1, 3).astype(np.float64)).astype(np.float32)
    image = np.asarray(volume.array, dtype=np.float32)
    return kernels.sample(image, index).reshape(grid_points.shape[:-1])


def _common_lungs(fixed: Labels, moving: Labels) -> list[int]:
    names = {1: "right", 2: "left"}
    present = {lung: ((fixed == lung).any(), (moving == lung).any()) for lung in names}
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
