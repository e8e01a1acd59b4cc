"""Jacobian and density of both phases -> apparent blood-mass change m, and Q, the surrogate of perfusion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AnyFloat = NDArray[np.floating]


def mass_change(jacobian: AnyFloat, rho_insp: AnyFloat, rho_exp: AnyFloat) -> AnyFloat:
    """m(x) = J(x) rho_i(phi(x)) - rho_e(x): apparent mass change, g per mL of expiratory lung.

    Parameters
    ----------
    jacobian : (k, j, i)
        J = det d phi / d x, 1.
    rho_insp, rho_exp : (k, j, i)
        Density, g/mL; the inspiratory one warped to the expiratory grid.

    References
    ----------
    Castillo E et al. CT-derived perfusion (CT-P), Med Phys 2021, doi:10.1002/mp.14920.
    """
    return jacobian * rho_insp - rho_exp


def perfusion(mean_mass_change: AnyFloat) -> AnyFloat:
    """Q = |local mean of m|, g/mL: the signed change is averaged first, its magnitude taken after.

    A surrogate of perfusion, not a measurement of it.
    """
    return np.abs(mean_mass_change)
