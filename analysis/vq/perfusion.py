"""Jacobian and density of both phases -> apparent blood-mass change m, and Q, the surrogate of perfusion."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

AnyFloat = NDArray[np.floating]


def mass_change(jacobian: AnyFloat, rho_insp: AnyFloat, rho_exp: AnyFloat) -> AnyFloat:
    """Return the apparent mass change m(x) = J(x) rho_i(phi(x)) - rho_e(x), g per mL of expiratory lung.

    Parameters
    ----------
    jacobian : (k, j, i)
        J = det d phi / d x, 1.
    rho_insp, rho_exp : (k, j, i)
        Density, g/mL; the inspiratory one warped to the expiratory grid.

    References
    ----------
    Castillo E et al. CT-derived perfusion (CT-P), Med Phys 2021, doi:10.1002/mp.14792.
    """
    return jacobian * rho_insp - rho_exp


def perfusion(mean_mass_change: AnyFloat) -> AnyFloat:
    """Return Q = |local mean of m|, g/mL: the signed change is averaged before its magnitude is taken.

    Q is a surrogate of perfusion, not a measurement of it.
    """
    return np.abs(mean_mass_change)


@njit(cache=True)
def deposit(values, index, shape):  # type: ignore[no-untyped-def]
    """Deposit (n,) values at (n, 3) fractional indices, trilinearly: (k, j, i) float64 with exactly their sum.

    Values that fall outside the grid are deposited at its edge.
    """
    out = np.zeros(shape)
    for n in range(values.shape[0]):
        cell = np.empty(3, np.int64)
        part = np.empty(3)
        for a in range(3):
            x = min(max(index[n, a], 0.0), shape[a] - 1.0)
            cell[a] = min(int(x), shape[a] - 2)
            part[a] = x - cell[a]
        for corner in range(8):
            w = values[n]
            for a in range(3):
                w *= part[a] if (corner >> a) & 1 else 1 - part[a]
            out[cell[0] + (corner & 1), cell[1] + ((corner >> 1) & 1), cell[2] + (corner >> 2)] += w
    return out
