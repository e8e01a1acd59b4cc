"""A matched pair and the likely errors of what it is made from -> how uncertain V, Q and the fractions are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..parameters import Parameters
from ..registration.registration import RegistrationQuality
from ..volume import Float, Grid, Mask
from ..vq.classes import classify, normalised
from .matched import Matched, smooth
from .uncertainty import FRACTIONS, Masks, Percents, percents

#: Errors of a result, by factors that twins with a known truth show (`benchmarks/firmness.py`):
#: registration - a smooth random field (white noise under a Gaussian of `LENGTH_MM`) whose root mean square length is
#: `GAIN` times what features and the way there and back miss, and one factor of J whose standard deviation is
#: `CLOSURE_GAIN` times the closure;
#: density - what vessels, their blur and noise add to m: a smooth random share (Gaussian of `SHARE_MM`, SD `SHARE`) of
#: tissue that does not breathe, which adds share (J - 1) to m;
#: smoothing - `SMOOTHING` times what as much smoothing again changes;
#: level - all of normalised V, and all of normalised Q, too high or too low by a share of `LEVEL`.
GAIN, LENGTH_MM, CLOSURE_GAIN = 3.0, 6.0, 2.0
SHARE, SHARE_MM = 0.002, 12.0
SMOOTHING, LEVEL = 1.0, 0.14
#: Working resolution, and how many errors are drawn.
COARSE_MM, DRAWS = 4.0, 16


@dataclass(frozen=True)
class Errors:
    """Hold how wrong what a result is made from is likely to be.

    Attributes
    ----------
    length_mm : float
        Root mean square length of the displacement's error; NaN where nothing is known of it.
    scale : float
        Standard deviation of a factor common to all of J.
    share : float
        Standard deviation of the share of tissue that counts as lung and does not breathe.
    smoothing : float
        How many times the effect of as much smoothing again the effect of smoothing is.
    level : float
        Standard deviation of a factor common to all of normalised V; and of another, of Q.
    """

    length_mm: float
    scale: float
    share: float = 0.0
    smoothing: float = 0.0
    level: float = 0.0

    @classmethod
    def of(cls, quality: RegistrationQuality) -> Errors:
        """Estimate the errors from what the registration measures of itself."""
        seen = float(np.hypot(quality.feature_residual, quality.inverse_consistency))
        return cls(GAIN * seen, CLOSURE_GAIN * abs(quality.closure), SHARE, SMOOTHING, LEVEL)


@dataclass(frozen=True, eq=False)
class Firmness:
    """Hold how firm a result is.

    Attributes
    ----------
    percent : mapping of region to mapping of fraction to float
        Standard uncertainty of every fraction, in percent of the classified lung.
    v, q : (k, j, i) float32
        Standard uncertainty of normalised V and Q; NaN where they are not defined.
    """

    percent: Percents
    v: Float
    q: Float


def firmness(
    pair: Matched, regions: Masks, parameters: Parameters, error: Errors, height: Float | None = None
) -> Firmness:
    """Return the standard uncertainty of normalised V and Q in every voxel, and of every fraction of every region.

    Random errors w of the registration are carried through to first order, J' = J + div(J w) and
    rho_i' = rho_i + w . grad rho_i, with random shares s of tissue that does not breathe, m' = m + s (J - 1); then
    averaged, normalised and classified as the maps are; then V and Q are smoothed as much again, and each is moved by
    ``error.level``. The result is the root of the sum of the mean square changes. Methods that count or deposit are
    replaced by their continuous form.

    Parameters
    ----------
    pair : Matched
    regions : mapping of name to (k, j, i) bool
    parameters : Parameters
    error : Errors
    height : (k, j, i) float32, optional
    """
    if not np.isfinite([error.length_mm, error.scale]).all() or not pair.mask.any():
        nothing = np.full(pair.grid.shape, np.nan, dtype=np.float32)
        unknown = {region: dict.fromkeys(FRACTIONS, float("nan")) for region in regions}
        return Firmness(unknown, nothing, nothing)
    stage = _Stage.of(pair, regions, parameters, height)
    base = stage.maps(stage.pair)
    drawn = (stage.maps(stage.moved(*one)) for one in _draws(stage.pair, error))
    smoother = replace(stage.parameters, sigma_mm=np.sqrt(2) * stage.parameters.sigma_mm)
    again = replace(stage, parameters=smoother).maps(stage.pair)
    total = _Squares.of(stage, base, drawn).plus(_Squares.of(stage, base, [again]), error.smoothing**2)
    for moved in _levels(base, error.level):
        total = total.plus(_Squares.of(stage, base, moved), 1.0)
    v, q = (np.where(pair.mask, stage.fine(np.sqrt(a), pair.grid), np.float32(np.nan)) for a in total.maps)
    root = {region: {n: float(np.sqrt(x)) for n, x in row.items()} for region, row in total.percent.items()}
    return Firmness(root, v, q)


Normalised = tuple[Float, Float]


@dataclass(frozen=True, eq=False)
class _Squares:
    """Hold mean square changes of normalised V and Q, and of every fraction of every region."""

    maps: tuple[Float, Float]
    percent: Percents

    @classmethod
    def of(cls, stage: _Stage, base: Normalised, changed: Iterable[Normalised]) -> _Squares:
        right, found = stage.percents(base), list(changed)
        v, q = (
            np.asarray(np.mean([(one[n] - base[n]) ** 2 for one in found], axis=0), np.float32)
            for n in (0, 1)
        )
        fractions = [stage.percents(one) for one in found]
        percent = {
            region: {
                name: float(np.mean([(f[region][name] - x) ** 2 for f in fractions]))
                for name, x in row.items()
            }
            for region, row in right.items()
        }
        return cls((v, q), percent)

    def plus(self, other: _Squares, factor: float) -> _Squares:
        """Return the sum with ``factor`` times another's."""
        v, q = (a + np.float32(factor) * b for a, b in zip(self.maps, other.maps, strict=True))
        percent = {
            region: {name: x + factor * other.percent[region][name] for name, x in row.items()}
            for region, row in self.percent.items()
        }
        return _Squares((v, q), percent)


@dataclass(frozen=True, eq=False)
class _Stage:
    """Hold the coarse matched pair, with everything that does not change from one error to the next."""

    pair: Matched
    factors: tuple[int, int, int]
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
        images = [mean(a) for a in (pair.jacobian, pair.ct_exp, pair.ct_insp)]
        vessels = mean(pair.vessels.astype(np.float32)) >= 0.5
        coarse = Matched(grid, images[0], images[1], images[2], mask, mask, vessels, pair.mass_change, None)
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
        return cls(coarse, (k, j, i), gradients, parts, plain, None if height is None else mean(height))

    def moved(self, w: Float, factor: float, share: Float) -> Matched:
        """Return the pair if the registration errs by ``w`` and J by ``factor``, and ``share`` does not breathe.

        Parameters
        ----------
        w : (k, j, i, 3) float32
            mm along k, j, i.
        factor : float
        share : (k, j, i) float32
        """
        pair = self.pair
        divergence = sum(np.gradient(w[..., a], s, axis=a) for a, s in enumerate(pair.grid.spacing))
        along = [np.einsum("...a,...a", w, g) for g in self.gradients]
        jacobian = factor * (pair.jacobian * (1 + divergence) + along[0])
        blood = 1000 * share * (pair.jacobian - 1) / np.maximum(pair.jacobian, 0.1)
        return replace(
            pair,
            jacobian=jacobian.astype(np.float32),
            ct_insp=(pair.ct_insp + along[1] + blood).astype(np.float32),
        )

    def maps(self, pair: Matched) -> Normalised:
        """Return normalised V and Q of a pair."""
        return normalised(smooth(pair, self.parameters), pair.mask, self.parameters, self.height)

    def percents(self, maps: Normalised) -> Percents:
        """Return the fractions of normalised V and Q."""
        p, pair = self.parameters, self.pair
        classes = classify(*maps, pair.mask, pair.grid.voxel_ml, p.low, p.min_defect_ml)
        return percents(classes, self.regions)

    def fine(self, values: Float, grid: Grid) -> Float:
        """Return values of the coarse grid in every voxel of the fine one; at its end those of the last block."""
        for axis, (factor, n) in enumerate(zip(self.factors, grid.shape, strict=True)):
            at = np.minimum(np.arange(n) // factor, values.shape[axis] - 1)
            values = np.take(values, at, axis=axis)
        return values


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


def _draws(pair: Matched, error: Errors) -> Iterator[tuple[Float, float, Float]]:
    """Yield `DRAWS` smooth random fields (k, j, i, 3), mm, factors of J, and shares (k, j, i)."""
    rng = np.random.default_rng(0)
    shape = pair.grid.shape

    def smooth_noise(mm: float) -> Float:
        values = rng.standard_normal(shape, dtype=np.float32)
        return np.asarray(ndimage.gaussian_filter(values, [mm / s for s in pair.grid.spacing]))

    for factor in 1 + error.scale * rng.standard_normal(DRAWS):
        w = np.stack([smooth_noise(LENGTH_MM) for _ in range(3)], axis=-1)
        length = np.sqrt((w[pair.mask] ** 2).sum(axis=-1).mean())
        share = smooth_noise(SHARE_MM)
        share *= np.float32(error.share / share[pair.mask].std())
        yield w * np.float32(error.length_mm / length), float(factor), share


def _levels(base: Normalised, level: float) -> tuple[tuple[Normalised, Normalised], ...]:
    """Return V raised and lowered by a factor, and Q raised and lowered."""
    (v, q), up = base, np.float32(1 + level)
    return ((v * up, q), (v / up, q)), ((v, q * up), (v, q / up))
