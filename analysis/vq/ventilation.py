"""Jacobian or HU of both phases -> ventilation V."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..volume import Float

AnyFloat = NDArray[np.floating]


@dataclass(frozen=True)
class Ventilation:
    """Describe a way to make V.

    Parameters
    ----------
    formula : str
        In a few words, for a report.
    unit : str
        UCUM; ``"1"`` is ml/ml.
    """

    formula: str
    unit: str


#: Every way to make V; the first is the default.
VENTILATIONS: Mapping[str, Ventilation] = {
    "jacobian": Ventilation("J - 1", "1"),
    "hu": Ventilation("from HU", "1"),
    "mass-corrected hu": Ventilation("from HU, mass-corrected", "1"),
    "mcvc": Ventilation("MCVC", "1"),
    "ijf": Ventilation("IJF - 1", "1"),
    "delta svg": Ventilation("delta SVg", "ml/g"),
}


def density(hu: AnyFloat) -> AnyFloat:
    """Return the density (g/mL) of HU, (HU + 1000) / 1000, as of a mixture of water-like tissue and air.

    Examples
    --------
    >>> float(density(np.array(-720.0)))
    0.28
    """
    return (hu + 1000) / 1000


def jacobian_ventilation(jacobian: Float) -> Float:
    """Return V = J - 1, volume change per expiratory volume (Reinhardt 2008, doi:10.1016/j.media.2008.03.007)."""
    return jacobian - 1


def hu_ventilation(hu_insp: AnyFloat, hu_exp: AnyFloat) -> AnyFloat:
    """Return V from HU alone (Simon 2000; Guerrero 2005, doi:10.1016/j.ijrobp.2005.03.023), ml/ml.

    It assumes that no mass moves, and is wrong wherever the apparent mass change is not 0.
    """
    return 1000 * (hu_insp - hu_exp) / (hu_exp * (1000 + hu_insp))


def mass_corrected_hu_ventilation(hu_insp: AnyFloat, hu_exp: AnyFloat, mass_change: float) -> AnyFloat:
    """Return `hu_ventilation` after dividing inspiratory density by 1 + f, f = (M_insp - M_exp) / M_exp.

    Parameters
    ----------
    hu_insp, hu_exp : array
        HU at corresponding points.
    mass_change : float
        f of the whole lung, 1.
    """
    corrected = density(hu_insp) / (1 + mass_change) * 1000 - 1000
    return hu_ventilation(corrected, hu_exp)


def mcvc(hu_insp: AnyFloat, hu_exp: AnyFloat) -> AnyFloat:
    """Return the mass-conserving volume change of a subregion: mean(rho_e) / mean(rho_i) - 1 (Castillo 2020).

    Parameters
    ----------
    hu_insp, hu_exp : array
        Mean HU of subregions, at corresponding points.
    """
    return density(hu_exp) / density(hu_insp) - 1


def delta_specific_volume(hu_insp: AnyFloat, hu_exp: AnyFloat) -> AnyFloat:
    """Return the change of specific gas volume, 1000/(1000+HUi) - 1000/(1000+HUe), mL/g (Salito 2009).

    References
    ----------
    doi:10.1148/radiol.2511080874
    """
    return 1 / density(hu_insp) - 1 / density(hu_exp)
