"""How firm a fraction is: against another threshold, and against the error of the registration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..parameters import Parameters
from ..registration.registration import RegistrationQuality
from ..volume import Float, Labels, Mask
from ..vq.classes import VQClass, classify, normalised
from .matched import Matched, smooth

#: Thresholds at which the sensitivity of the fractions is computed.
THRESHOLDS = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75)
#: Fractions of `measures.MEASURES` and the classes they count.
FRACTIONS: Mapping[str, tuple[VQClass, ...]] = {
    "dead_space": (VQClass.DEAD_SPACE,),
    "shunt": (VQClass.SHUNT,),
    "matched_defect": (VQClass.MATCHED_DEFECT,),
    "total_abnormal": (VQClass.DEAD_SPACE, VQClass.SHUNT, VQClass.MATCHED_DEFECT),
}

Masks = Mapping[str, Mask]
Percents = dict[str, dict[str, float]]


def percents(classes: Labels, regions: Masks) -> Percents:
    """Return every fraction in percent of the classified lung, by region; NaN where nothing is classified.

    Parameters
    ----------
    classes : (k, j, i) uint8
        Values of `VQClass`.
    regions : mapping of name to (k, j, i) bool
    """
    out = {}
    for region, inside in regions.items():
        counts = np.bincount(classes[inside], minlength=len(VQClass)).astype(np.float64)
        total = counts[1:].sum()
        out[region] = {
            name: 100 * float(counts[list(cs)].sum() / total) if total else float("nan")
            for name, cs in FRACTIONS.items()
        }
    return out


def sensitivity(
    v_n: Float, q_n: Float, mask: Mask, voxel_ml: float, min_defect_ml: float, regions: Masks
) -> dict[str, dict[str, tuple[float, ...]]]:
    """Return every fraction of every region at each of `THRESHOLDS`.

    Parameters
    ----------
    v_n, q_n : (k, j, i) float32
        Normalised V and Q.
    mask : (k, j, i) bool
        The classified lung.
    voxel_ml, min_defect_ml : float
        mL.
    regions : mapping of name to (k, j, i) bool
    """
    found = [percents(classify(v_n, q_n, mask, voxel_ml, low, min_defect_ml), regions) for low in THRESHOLDS]
    return {
        region: {name: tuple(at[region][name] for at in found) for name in FRACTIONS} for region in regions
    }


#: A registration's error, from what it sees of it itself, by the factors that twins with a known truth show: a smooth
#: random field (white noise under a Gaussian of `LENGTH_MM`) whose root mean square length is `GAIN` times what
#: features and the way there and back miss, and one factor of J whose standard deviation is `CLOSURE_GAIN` times the
#: closure.
GAIN, LENGTH_MM, CLOSURE_GAIN = 4.0, 6.0, 2.0
#: Working resolution, and how many errors are drawn.
COARSE_MM, DRAWS = 4.0, 16


@dataclass(frozen=True)
class RegistrationError:
    """Hold how wrong a registration is likely to be.

    Attributes
    ----------
    length_mm : float
        Root mean square length of the displacement's error; NaN where nothing is known of it.
    scale : float
        Standard deviation of a factor common to all of J.
    """

    length_mm: float
    scale: float

    @classmethod
    def of(cls, quality: RegistrationQuality) -> RegistrationError:
        """Estimate the error from what the registration measures of itself."""
        seen = float(np.hypot(quality.feature_residual, quality.inverse_consistency))
        return cls(GAIN * seen, CLOSURE_GAIN * abs(quality.closure))


def fraction_sd(
    pair: Matched,
    regions: Masks,
    parameters: Parameters,
    error: RegistrationError,
    height: Float | None = None,
) -> Percents:
    """Return the standard uncertainty of every fraction of every region, in percent of the classified lung.

    Random errors w of the registration are carried through to first order, J' = J + div(J w) and
    rho_i' = rho_i + w . grad rho_i, then averaged, normalised and classified as the maps are; the result is the root
    mean square change of each fraction. Methods that count or deposit are replaced by their continuous form.

    Parameters
    ----------
    pair : Matched
    regions : mapping of name to (k, j, i) bool
    parameters : Parameters
    error : RegistrationError
    height : (k, j, i) float32, optional
    """
    if not np.isfinite([error.length_mm, error.scale]).all() or not pair.mask.any():
        return {region: dict.fromkeys(FRACTIONS, float("nan")) for region in regions}
    stage = _Stage.of(pair, regions, parameters, height)
    base = stage.percents(np.zeros((*stage.pair.grid.shape, 3), np.float32), 1.0)
    changes = [_difference(stage.percents(*drawn), base) for drawn in _errors(stage.pair, error)]
    return {
        region: {
            name: float(np.sqrt(np.mean([change[region][name] ** 2 for change in changes])))
            for name in FRACTIONS
        }
        for region in regions
    }


def _difference(a: Percents, b: Percents) -> Percents:
    return {region: {name: a[region][name] - b[region][name] for name in FRACTIONS} for region in a}


@dataclass(frozen=True, eq=False)
class _Stage:
    """Hold the coarse matched pair, with everything that does not change from one error to the next."""

    pair: Matched
    gradients: tuple[NDArray[np.float32], NDArray[np.float32]]
    regions: Masks
    parameters: Parameters
    height: Float | None

    @classmethod
    def of(cls, pair: Matched, regions: Masks, parameters: Parameters, height: Float | None) -> _Stage:
        k, j, i = (max(1, int(1.15 * COARSE_MM / s)) for s in pair.grid.spacing)
        mean = _block_mean((k, j, i), pair.mask)
        mask = mean(pair.mask.astype(np.float32), everywhere=True) >= 0.5
        grid = pair.grid.coarsen((k, j, i))
        coarse = Matched(
            grid,
            mean(pair.jacobian),
            mean(pair.ct_exp),
            mean(pair.ct_insp),
            mask,
            mask,
            pair.mass_change,
            None,
        )
        spacing = grid.spacing
        gradients = (
            np.stack([*np.gradient(coarse.jacobian, *spacing)], axis=-1),
            np.stack([*np.gradient(coarse.ct_insp, *spacing)], axis=-1),
        )
        parts = {
            name: mean(inside.astype(np.float32), everywhere=True) >= 0.5 for name, inside in regions.items()
        }
        plain = replace(
            parameters,
            ventilation="jacobian" if parameters.ventilation == "ijf" else parameters.ventilation,
            perfusion="gaussian",
        )
        return cls(coarse, gradients, parts, plain, None if height is None else mean(height))

    def percents(self, w: Float, factor: float) -> Percents:
        """Return fractions if the registration errs by ``w`` (k, j, i, 3), mm along k, j, i, and J by ``factor``."""
        pair, p = self.pair, self.parameters
        divergence = sum(np.gradient(w[..., a], s, axis=a) for a, s in enumerate(pair.grid.spacing))
        along = [np.einsum("...a,...a", w, g) for g in self.gradients]
        moved = replace(
            pair,
            jacobian=(factor * (pair.jacobian * (1 + divergence) + along[0])).astype(np.float32),
            ct_insp=(pair.ct_insp + along[1]).astype(np.float32),
        )
        v_n, q_n = normalised(smooth(moved, p), pair.mask, p, self.height)
        return percents(
            classify(v_n, q_n, pair.mask, pair.grid.voxel_ml, p.low, p.min_defect_ml), self.regions
        )


def _block_mean(factors: tuple[int, int, int], mask: Mask) -> Callable[..., Float]:
    """Return a function that averages blocks over the mask and continues the result outside of it."""
    n = [s // f for s, f in zip(mask.shape, factors, strict=True)]

    def blocks(values: Float) -> Float:
        cut = values[tuple(slice(0, a * f) for a, f in zip(n, factors, strict=True))]
        shape = (n[0], factors[0], n[1], factors[1], n[2], factors[2])
        return cut.reshape(shape).sum(axis=(1, 3, 5), dtype=np.float32)

    count = blocks(mask.astype(np.float32))
    nearest = tuple(ndimage.distance_transform_edt(count == 0, return_distances=False, return_indices=True))

    def mean(values: Float, everywhere: bool = False) -> Float:
        if everywhere:
            return blocks(values) / np.float32(np.prod(factors))
        return (blocks(np.where(mask, values, 0)) / np.maximum(count, 1))[nearest]

    return mean


def _errors(pair: Matched, error: RegistrationError) -> Iterator[tuple[Float, float]]:
    """Yield `DRAWS` smooth random fields (k, j, i, 3), mm, and factors of J."""
    rng = np.random.default_rng(0)
    sigma = [LENGTH_MM / s for s in pair.grid.spacing]
    shape = pair.grid.shape
    for factor in 1 + error.scale * rng.standard_normal(DRAWS):
        noise = [
            ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma) for _ in range(3)
        ]
        w = np.stack(noise, axis=-1)
        length = np.sqrt((w[pair.mask] ** 2).sum(axis=-1).mean())
        yield w * np.float32(error.length_mm / length), float(factor)
