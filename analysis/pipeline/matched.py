"""Two phases and the field between them -> V, Q, V/Q and the class of every voxel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import Rejected
from ..parameters import Parameters
from ..registration.registration import warp
from ..volume import Float, Grid, Labels, Mask
from ..vq import ventilation as vs
from ..vq.classes import classify, normalised
from ..vq.perfusion import deposit, mass_change, perfusion
from ..vq.smoothing import twiced_gaussian
from ..vq.subregions import fit
from ..vq.ventilation import density
from .phase import Phase

VESSEL_HU = -250.0
#: Beside what is denser than this (HU), m counts `BESIDE_VESSELS` times as much in its local mean as elsewhere: a share
#: f of a vessel, which does not grow, adds about f (J - 1) to it. Chosen on twins (docs/validation.md, "Q beside
#: vessels").
BLOOD_HU, BESIDE_VESSELS = -500.0, 0.05
#: Range of local mean HU for the formulas of ventilation from HU, whose poles are 0 and -1000.
HU_RANGE = (-999.0, -1.0)


@dataclass(frozen=True, eq=False)
class Deposits:
    """Hold inspiratory lung voxels deposited where they came from, on the expiratory working grid.

    Attributes
    ----------
    volume : (k, j, i) float64
        Inspiratory volume over expiratory volume: a Jacobian counted instead of differentiated.
    mass : (k, j, i) float64
        Inspiratory mass, g per mL of expiration; its sum is the inspiratory lungs' mass exactly.
    hits : (k, j, i) float64
        Inspiratory voxels.
    """

    volume: NDArray[np.float64]
    mass: NDArray[np.float64]
    hits: NDArray[np.float64]

    @classmethod
    def of(cls, insp: Phase, grid: Grid, inverse: Float) -> Deposits:
        """Deposit the inspiratory lungs on ``grid``; ``inverse`` (k, j, i, 3), mm LPS, on their working grid."""
        inside = insp.lungs > 0
        points = insp.work.grid.centres()[inside] + inverse[inside]
        index = grid.indices(points.astype(np.float64))
        rho = density(np.asarray(insp.work.array, dtype=np.float64)[inside])
        ratio = insp.work.grid.voxel_ml / grid.voxel_ml
        hits = deposit(np.ones(len(index)), index, grid.shape)
        return cls(hits * ratio, deposit(rho, index, grid.shape) * ratio, hits)


@dataclass(frozen=True, eq=False)
class Matched:
    """Hold both phases at the same points: those of the expiratory working grid.

    Attributes
    ----------
    mask : (k, j, i) bool
        Where V and Q are defined.
    vessels : (k, j, i) bool
        Where m is that of vessels rather than of lung.
    """

    grid: Grid
    jacobian: Float
    ct_exp: Float
    ct_insp: Float
    lungs: Mask
    mask: Mask
    vessels: Mask
    mass_change: float
    deposits: Deposits | None

    def need_deposits(self, method: str) -> Deposits:
        """Return the deposits, or raise `Rejected` where no inverse field was given to make them."""
        if self.deposits is None:
            raise Rejected(f"{method} needs the field from inspiration to expiration too")
        return self.deposits


def match(
    insp: Phase, exp: Phase, displacement: Float, jacobian: Float, rim_mm: float, inverse: Float | None
) -> Matched:
    """Carry inspiration to the expiratory working grid and say where V and Q are defined.

    The mask has no lower limit of HU: in emphysema noise alone falls below -1000, and leaving out only the low
    tail would bias m.
    """
    grid = exp.work.grid
    warped = warp(insp.work, grid.centres() + displacement)
    ct_exp = np.asarray(exp.work.array, dtype=np.float32)
    lungs = exp.lungs > 0
    rim = ndimage.distance_transform_edt(lungs, sampling=grid.spacing) > rim_mm
    vessels, beside = (ndimage.binary_dilation((ct_exp > hu) | (warped > hu)) for hu in (VESSEL_HU, BLOOD_HU))
    before, after = exp.densities.mass_g("lungs"), insp.densities.mass_g("lungs")
    return Matched(
        grid, jacobian, ct_exp, warped, lungs, rim & ~vessels, beside, after / before - 1,
        None if inverse is None else Deposits.of(insp, grid, inverse),
    )  # fmt: skip


def vq(
    insp: Phase, exp: Phase, displacement: Float, jacobian: Float, parameters: Parameters
) -> tuple[dict[str, Float], Mask, Labels]:
    """Make V, Q and classes from a displacement field by methods that need no inverse; without gravity correction.

    Parameters
    ----------
    insp, exp : Phase
    displacement, jacobian : (k, j, i, 3), (k, j, i) float32 on ``exp.work.grid``
        From expiration to inspiration, mm LPS; and J.
    parameters : Parameters

    Returns
    -------
    maps : dict of str to (k, j, i) float32
        As of `make_maps`.
    mask : (k, j, i) bool
        Where they hold.
    classes : (k, j, i) uint8
        Values of `classes.VQClass`.
    """
    pair = match(insp, exp, displacement, jacobian, parameters.rim_mm, None)
    maps, v_n, q_n = make_maps(pair, parameters)
    classes = classify(v_n, q_n, pair.mask, pair.grid.voxel_ml, parameters.low, parameters.min_defect_ml)
    return maps, pair.mask, classes


def make_maps(
    pair: Matched, parameters: Parameters, height: Float | None = None
) -> tuple[dict[str, Float], Float, Float]:
    """Make every map of two matched phases, and normalised V and Q.

    Parameters
    ----------
    pair : Matched
    parameters : Parameters
    height : (k, j, i) float32, optional
        mm above the floor; needed where ``parameters.gravity``.

    Returns
    -------
    maps : dict of str to (k, j, i) float32
        As `pipeline.Analysis.maps`, finite everywhere; where there are deposits also ``"m deposit"``.
    v_n, q_n : (k, j, i) float32
        As of `classes.normalised`.

    Raises
    ------
    Rejected
        Where the parameters need deposits and there are none.
    """
    maps = smooth(pair, parameters)
    v_n, q_n = normalised(maps, pair.mask, parameters, height)
    with np.errstate(divide="ignore", invalid="ignore"):
        maps["V/Q"] = np.where(pair.mask, v_n / q_n, 0).astype(np.float32)
    maps |= {"jacobian": pair.jacobian, "ct_exp": pair.ct_exp, "ct_insp": pair.ct_insp}
    return maps, v_n, q_n


def smooth(pair: Matched, parameters: Parameters) -> dict[str, Float]:
    """Smooth V, Q and m to one effective resolution, less where a method has averaged already.

    m is averaged over lung; beside vessels, where it is more theirs, it counts `BESIDE_VESSELS` as much.
    """
    (v, v_mm), (m, m_mm) = ventilation_map(pair, parameters), mass_map(pair, parameters)
    raw = {"V": (v, v_mm), "m": (m, m_mm)}
    if pair.deposits is not None:
        raw["m deposit"] = (_deposited(pair), 0.0)
    sigma = max(parameters.sigma_mm, v_mm, m_mm)
    lung = np.where(pair.vessels, np.float32(BESIDE_VESSELS), np.float32(1))
    maps: dict[str, Float] = {}
    for name, (values, own) in raw.items():
        rest = float(np.sqrt(sigma**2 - own**2))
        certainty = None if name == "V" else lung
        maps[name] = twiced_gaussian([values], pair.mask, pair.grid.spacing, rest, certainty)[0]
    maps["Q"] = perfusion(maps["m"]).astype(np.float32)
    return maps


def ventilation_map(pair: Matched, parameters: Parameters) -> tuple[Float, float]:
    """Return V by the chosen method, (k, j, i), and the SD (mm) of the averaging that it contains already."""
    method = parameters.ventilation
    if method == "jacobian":
        return vs.jacobian_ventilation(pair.jacobian), 0.0
    if method == "ijf":
        counted = pair.need_deposits("ijf")
        total = float(counted.volume.sum())
        fitted = fit(counted.volume, counted.hits, pair.lungs, pair.grid.spacing, parameters.tau_v, total)
        return fitted.values - 1, fitted.sigma_mm
    hu = twiced_gaussian((pair.ct_insp, pair.ct_exp), pair.mask, pair.grid.spacing, parameters.sigma_mm)
    insp, exp = (np.clip(values, *HU_RANGE) for values in hu)
    values = np.where(pair.mask, hu_methods(pair.mass_change)[method](insp, exp), 0)
    return values.astype(np.float32), parameters.sigma_mm


HUMethod = Callable[[vs.AnyFloat, vs.AnyFloat], vs.AnyFloat]


def hu_methods(mass_change: float) -> Mapping[str, HUMethod]:
    """Return the ways to make V from local mean HU of both phases; ``mass_change`` is f of the lungs."""
    return {
        "hu": vs.hu_ventilation,
        "mass-corrected hu": lambda insp, exp: vs.mass_corrected_hu_ventilation(insp, exp, mass_change),
        "mcvc": vs.mcvc,
        "delta svg": vs.delta_specific_volume,
    }


def mass_map(pair: Matched, parameters: Parameters) -> tuple[Float, float]:
    """Return signed m by the chosen method, (k, j, i), and the SD (mm) of the averaging that it contains already."""
    if parameters.perfusion == "gaussian":
        m = mass_change(pair.jacobian, density(pair.ct_insp), density(pair.ct_exp))
        return m.astype(np.float32), 0.0
    counted = pair.need_deposits(f"perfusion by {parameters.perfusion}")
    if parameters.perfusion == "deposit":
        return _deposited(pair), 0.0
    fitted = fit(
        _deposited(pair).astype(np.float64), counted.hits, pair.mask, pair.grid.spacing, parameters.tau_q
    )
    return fitted.values, fitted.sigma_mm


def _deposited(pair: Matched) -> Float:
    """Return deposited inspiratory mass less expiratory mass, g per mL of expiration."""
    counted = pair.need_deposits("the deposit of mass")
    return (counted.mass - density(pair.ct_exp)).astype(np.float32)
