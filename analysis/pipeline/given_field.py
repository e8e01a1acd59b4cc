"""A displacement field that a user brings -> the same quantities that our own registration gives, and its quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import Rejected
from ..registration import kernels
from ..registration.lung import FINEST_MM, LEVELS, LungStack
from ..registration.refine import agreement
from ..registration.registration import RegistrationQuality, jacobian
from ..volume import DisplacementField, Float, Grid, Labels, Volume
from .phase import Phase

#: Least share of the expiratory lung that a field must carry into the inspiratory lung.
ARRIVE = 0.7
TURNS = 30  # of the iteration that inverts a field
CLOSE_MM = 0.01


@dataclass(frozen=True, eq=False)
class GivenField:
    """Hold a given field on the working grids.

    Attributes
    ----------
    displacement : (k, j, i, 3) float32 on the expiratory working grid
        mm, LPS.
    jacobian : (k, j, i) float32
        det(I + du/dx); 1 outside the lungs.
    inverse : (k, j, i, 3) float32 on the inspiratory working grid
        mm, LPS.
    quality : RegistrationQuality
        As measured for our own fields: similarity and residual from the CTs' own voxels.
    """

    displacement: Float
    jacobian: Float
    inverse: Float
    quality: RegistrationQuality


def given_field(insp: Phase, exp: Phase, field: DisplacementField) -> GivenField:
    """Carry a field to the working grids, invert it and measure how far it can be trusted.

    Parameters
    ----------
    insp, exp : Phase
    field : DisplacementField
        From expiration to inspiration.

    Raises
    ------
    Rejected
        Where it leads fewer than `ARRIVE` of the expiratory lung into the inspiratory lung.
    """
    grid = exp.work.grid
    u = _at(field.vectors, field.grid, grid.centres())
    _check(u, insp, exp)
    inside = exp.lungs > 0
    jac = np.ones(grid.shape, dtype=np.float32)
    along = np.ascontiguousarray(u @ grid.directions.astype(np.float32))
    jac[inside] = jacobian(along, grid.spacing)[inside]
    inverse = invert(field, insp.work.grid)
    return GivenField(u, jac, inverse, _quality(insp, exp, field, jac, (u, inverse)))


def invert(field: DisplacementField, grid: Grid) -> Float:
    """Return w with w(y) = -u(y + w(y)) on another grid, by fixed-point iteration (Chen 2008, doi:10.1118/1.2816107).

    Parameters
    ----------
    field : DisplacementField
        u.
    grid : Grid
        Of y, in the image that u leads to.

    Returns
    -------
    (k, j, i, 3) float32
        mm, LPS.
    """
    y = grid.centres()
    w = -_at(field.vectors, field.grid, y)
    for _ in range(TURNS):
        step = -_at(field.vectors, field.grid, y + w) - w
        w = w + step
        if float(np.abs(step).max()) < CLOSE_MM:
            break
    return np.asarray(w, dtype=np.float32)


def _at(vectors: Float, grid: Grid, points: Float) -> Float:
    """Return vectors at LPS points (…, 3), trilinear; edges extend."""
    index = grid.indices(points.reshape(-1, 3).astype(np.float64)).astype(np.float32)
    parts = [kernels.sample(np.ascontiguousarray(vectors[..., c]), index) for c in range(3)]
    return np.stack(parts, axis=-1).reshape(points.shape)


def _check(u: Float, insp: Phase, exp: Phase) -> None:
    inside = exp.lungs > 0
    points = exp.work.grid.centres()[inside] + u[inside]
    index = np.rint(insp.work.grid.indices(points.astype(np.float64))).astype(np.intp)
    within = ((index >= 0) & (index < insp.work.grid.shape)).all(axis=1)
    arrive = float((insp.lungs[tuple(index[within].T)] > 0).sum() / len(index))
    if arrive < ARRIVE:
        raise Rejected(
            f"the displacement field leads {arrive:.0%} of the expiratory lung into the inspiratory lung, at least"
            f" {ARRIVE:.0%} is needed: are its vectors in mm, in LPS, and from expiration to inspiration?"
        )


def _quality(
    insp: Phase, exp: Phase, field: DisplacementField, jac: Float, both: tuple[Float, Float]
) -> RegistrationQuality:
    inside, (u, inverse) = exp.lungs > 0, both
    points = exp.work.grid.centres()[inside][::7]
    there = u[inside][::7]
    back = _at(inverse, insp.work.grid, points + there)
    lungs = [n for n in (1, 2) if (exp.lungs == n).any() and (insp.lungs == n).any()]
    shares = [float((exp.lungs == n).sum()) for n in lungs]
    alike = np.array([_agreement(insp, exp, field, n) for n in lungs])
    carried_ml = float(jac[inside].sum(dtype=np.float64)) * exp.work.grid.voxel_ml
    return RegistrationQuality(
        closure=carried_ml / insp.lung_ml - 1,
        folding=float((jac[inside] <= 0).mean()),
        inverse_consistency=float(np.linalg.norm(there + back, axis=1).mean()),
        similarity=float(np.average(alike[:, 0], weights=shares)),
        feature_residual=float(np.average(alike[:, 1], weights=shares)),
    )


def _agreement(insp: Phase, exp: Phase, field: DisplacementField, lung: int) -> tuple[float, float]:
    """Return similarity and feature residual (mm) of one lung, as of our own registration."""
    directions = exp.work.grid.directions
    f, m = (_stack(phase.ct, phase.lungs, phase.work.grid, lung, directions) for phase in (exp, insp))
    offset = ((f.origins[-1] - m.origins[-1]) / FINEST_MM).astype(np.float32)
    index = np.indices(f.levels[-1].inside.shape, dtype=np.float32)
    along = np.moveaxis(index, 0, -1) * np.float32(FINEST_MM) + f.origins[-1].astype(np.float32)
    points = along @ directions.T.astype(np.float32)
    u = _at(field.vectors, field.grid, points) @ directions.astype(np.float32)
    similarity, residual = agreement(
        f.levels[-1], m.levels[-1], offset, np.ascontiguousarray(u / np.float32(FINEST_MM)), LEVELS[-1].radius
    )
    return similarity, residual * FINEST_MM


def _stack(ct: Volume, lungs: Labels, grid: Grid, lung: int, directions: np.ndarray) -> LungStack:
    return LungStack.of(ct.coarsen(FINEST_MM), lungs == lung, grid, directions)
