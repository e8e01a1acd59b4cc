"""A smooth lung whose Jacobian is known exactly, at one voxel size after another -> what the voxel costs.

The displacement is the true one: what is left is the error of images made of voxels and of differences between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..registration.registration import jacobian, warp
from ..volume import Float, Grid, Mask, Volume
from ..vq.classes import VQClass, classify, normalise
from ..vq.perfusion import mass_change, perfusion
from ..vq.ventilation import density, jacobian_ventilation
from .phantom import Defect, Truth, carry, descent, shares, true_classes

FINE_MM = 0.25  # steps of the integral along z
SCALE = 1.06  # a, in-plane expansion
HALF, BOTTOM_EXP, BOTTOM_INSP = 60, 180, 240  # box beside and below the apex, mm
RADII, CENTRE_Z = (42.0, 50.0, 68.0), -72.0  # of the lung, mm
RHO_EXP, RHO_BODY = 0.28, 1.04  # g/mL
V, M = (0.05, 0.45), (0.004, 0.040)  # low and healthy V; low and healthy m, g/mL
RIM_MM = 10.0  # errors are those of lung deeper than this, where no voxel sees the body
DEFECTS = (
    Defect((0, -12, -42), (16, 16, 16), False, True),
    Defect((0, 16, -78), (18, 18, 18), True, False),
    Defect((0, -10, -110), (16, 16, 16), True, True),
)


@dataclass(frozen=True)
class Errors:
    """Hold the errors at one voxel size.

    Attributes
    ----------
    voxel_mm : float
    v, m : float
        Root mean square error of V and of m, percent of their means.
    closure : float
        Error of the volume the field carries, |sum J v - V_insp| / V_insp, percent.
    fractions : float
        Largest error of a class's fraction, points.
    """

    voxel_mm: float
    v: float
    m: float
    closure: float
    fractions: float


def convergence(sizes: Sequence[float]) -> tuple[Errors, ...]:
    """Compute the errors at voxel sizes (mm) that divide 60 and are multiples of 0.5."""
    return tuple(_errors(size) for size in sizes)


def order(errors: Sequence[Errors], name: str) -> float:
    """Return the slope of log error against log voxel size: 2 where the error falls with the square."""
    size, value = np.array([(e.voxel_mm, getattr(e, name)) for e in errors]).T
    return float(np.polyfit(np.log(size), np.log(value), 1)[0])


def smooth_phantom(voxel_mm: float) -> tuple[Truth, float]:
    """Make the lung in voxels of one size (on inspiration wider by `SCALE`), each a mean over its space; no noise.

    Returns
    -------
    truth : Truth
        A voxel is lung where its centre is.
    insp_ml : float
        Volume of the voxels that are lung on inspiration.
    """
    n, centres = round(voxel_mm / FINE_MM), _steps(HALF, HALF, voxel_mm)
    halves = _steps(HALF, HALF, voxel_mm / 2)
    z, z_insp = _steps(BOTTOM_EXP, 0, FINE_MM), _steps(BOTTOM_INSP, 0, FINE_MM)
    jac, m, heights = _motion(halves, z)
    lung = _ellipsoid(halves[None, None, :], halves[None, :, None], z[:, None, None], 0.0)
    carried, there = carry((RHO_EXP + m) / jac, lung.astype(np.float32), heights, z_insp)
    insp = _mean(np.where(there > 0.5, carried, np.float32(RHO_BODY)), n)
    exp = _mean(np.where(lung, np.float32(RHO_EXP), np.float32(RHO_BODY)), n)
    jac, m, heights = _motion(centres, z)
    inside = _ellipsoid(centres[None, None, :], centres[None, :, None], z[:, None, None], 0.0)
    there = _middle(carry(m, inside.astype(np.float32), heights, z_insp)[1], n) > 0.5
    lungs = (_middle(inside.astype(np.float32), n) > 0.5).astype(np.uint8)
    jac, m, heights = (_middle(values, n) for values in (jac, m, heights))
    displacement = np.empty((*jac.shape, 3), dtype=np.float32)
    displacement[..., 0] = (SCALE - 1) * centres
    displacement[..., 1] = (SCALE - 1) * centres[:, None]
    displacement[..., 2] = heights - _middle(z[:, None, None], n)
    truth = Truth(
        _volume(insp, voxel_mm, SCALE, BOTTOM_INSP),
        _volume(exp, voxel_mm, 1.0, BOTTOM_EXP),
        displacement,
        jac,
        m,
        lungs,
        true_classes(jac, m, lungs),
    )
    return truth, float(there.sum()) * truth.inspiratory.grid.voxel_ml


def _errors(voxel_mm: float) -> Errors:
    truth, insp_ml = smooth_phantom(voxel_mm)
    exp, insp = truth.expiratory, truth.inspiratory
    found = jacobian(np.ascontiguousarray(truth.displacement[..., ::-1]), exp.grid.spacing)
    warped = density(warp(insp, exp.grid.centres() + truth.displacement))
    v, m = (
        jacobian_ventilation(found),
        mass_change(found, warped, density(np.asarray(exp.array, np.float32))).astype(np.float32),
    )
    x, y, z = np.moveaxis(exp.grid.centres(), -1, 0)
    deep = _ellipsoid(x, y, z, RIM_MM)
    v_n, q_n = normalise(v, deep), normalise(perfusion(m).astype(np.float32), deep)
    classes = classify(v_n, q_n, deep, exp.grid.voxel_ml, low=0.60, min_defect_ml=0.0)
    true = true_classes(truth.jacobian, truth.mass_change, deep.astype(np.uint8))
    share = [np.bincount(c[deep], minlength=len(VQClass)) / deep.sum() for c in (classes, true)]
    carried_ml = float(found[truth.lungs > 0].sum(dtype=np.float64)) * exp.grid.voxel_ml
    return Errors(
        voxel_mm,
        _percent(v, jacobian_ventilation(truth.jacobian), deep),
        _percent(m, truth.mass_change, deep),
        100 * abs(carried_ml / insp_ml - 1),
        100 * float(np.abs(share[0] - share[1]).max()),
    )


def _percent(found: Float, true: Float, where: Mask) -> float:
    """Return the root mean square error over the mean, percent."""
    error = found[where].astype(np.float64) - true[where]
    return 100 * float(np.sqrt((error**2).mean()) / true[where].mean())


def _steps(below: float, above: float, step: float) -> Float:
    """Centres of the steps from -below to above, mm, rising."""
    return (np.arange(round((below + above) / step), dtype=np.float32) + 0.5) * np.float32(step) - below


def _ellipsoid(x: Float, y: Float, z: Float, rim_mm: float) -> Mask:
    a, b, c = (radius - rim_mm for radius in RADII)
    return (x / a) ** 2 + (y / b) ** 2 + ((z - CENTRE_Z) / c) ** 2 < 1


def _motion(across: Float, z: Float) -> tuple[Float, Float, Float]:
    """Return J, m and the height on inspiration, (k, j, i), at heights ``z`` of the columns at x, y = ``across``."""
    healthy = shares(DEFECTS, across[None, None, :], across[None, :, None], z[:, None, None])
    v, m = (low + np.float32(high - low) * h for (low, high), h in zip((V, M), healthy, strict=True))
    jac = 1 + v
    return jac, m, descent(jac / np.float32(SCALE**2), z[:, None, None]) * np.float32(FINE_MM)


def _mean(values: Float, n: int) -> Float:
    """Return the means of blocks of n x 2 x 2."""
    k, j, i = values.shape
    return values.reshape(k // n, n, j // 2, 2, i // 2, 2).mean(axis=(1, 3, 5), dtype=np.float32)


def _middle(values: Float, n: int) -> Float:
    """Return the values halfway through every n steps along z."""
    return (values[n // 2 - 1 :: n] + values[n // 2 :: n]) * np.float32(0.5)


def _volume(rho: Float, voxel_mm: float, scale: float, bottom: float) -> Volume:
    across = voxel_mm * scale
    first = -HALF * scale + across / 2
    grid = Grid.axial(rho.shape, (voxel_mm, across, across), (first, first, voxel_mm / 2 - bottom))
    return Volume(1000 * rho - 1000, grid)
