"""A result and the truth -> how far apart they are: displacement, low V, low Q, classes and fractions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage, stats

from ..anatomy.regions import ZONES_OF, zones
from ..figures.overview import class_map
from ..figures.views import PLANES, aspect, on_working_grid, section
from ..limits_of_use import RESEARCH_USE
from ..pipeline.pipeline import Analysis, Phase, vq
from ..volume import Float, Grid, Labels, Mask
from ..vq.classes import VQClass
from ..vq.smoothing import twiced_gaussian
from .breathing import Truth
from .phantom import Truth as PhantomTruth
from .phantom import true_classes

LOW_V = (VQClass.SHUNT, VQClass.MATCHED_DEFECT)
LOW_Q = (VQClass.DEAD_SPACE, VQClass.MATCHED_DEFECT)


@dataclass(frozen=True)
class Distances:
    """Summarise the lengths of error vectors, mm."""

    n: int
    mean: float
    median: float
    p95: float
    largest: float

    @classmethod
    def of(cls, lengths: NDArray[np.floating]) -> Distances:
        """Of (n,) lengths, mm; NaN where there is none."""
        if not lengths.size:
            return cls(0, *(float("nan"),) * 4)
        p50, p95 = np.percentile(lengths, [50, 95])
        return cls(int(lengths.size), float(lengths.mean()), float(p50), float(p95), float(lengths.max()))


@dataclass(frozen=True)
class ClassAgreement:
    """Hold how classes agree with the true ones, where both have a class.

    Attributes
    ----------
    low_v, low_q : float
        Dice of the lung of low V and of low Q, 0…1.
    percent : mapping of VQClass to float
        Share of the voxels that have a class and a true one.
    """

    low_v: float
    low_q: float
    percent: Mapping[VQClass, float]

    @property
    def total_abnormal(self) -> float:
        """Return the percent of the classified lung that is not normal."""
        return 100 - self.percent[VQClass.NORMAL]


@dataclass(frozen=True)
class Comparison:
    """Hold one result beside its truth.

    Attributes
    ----------
    error : Distances
        Of the displacement over all true lung, mm.
    landmarks : Distances
        Of landmarks carried by the field.
    found, best : ClassAgreement
        Of the result, and of what the same images give with the *true* field: the most that any registration can reach.
    truth : mapping of VQClass to float
        True percent of the voxels that the result classified (`true_classes_of`).
    whole : mapping of VQClass to float
        True percent of the whole lung.
    """

    error: Distances
    landmarks: Distances
    found: ClassAgreement
    best: ClassAgreement
    truth: Mapping[VQClass, float]
    whole: Mapping[VQClass, float]


def compare(
    analysis: Analysis,
    phases: tuple[Phase, Phase],
    truth: Truth,
    landmarks: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Comparison:
    """Compare a result with the truth.

    Parameters
    ----------
    analysis : Analysis
    phases : (Phase, Phase)
        Inspiration and expiration it was made from.
    truth : breathing.Truth
        On ``analysis.grid``.
    landmarks : pair of (n, 3) float64, optional
        On expiration and on inspiration, LPS mm.
    """
    inside = truth.lungs > 0
    error = np.linalg.norm(analysis.displacement - truth.displacement, axis=-1)
    marks = np.empty(0)
    if landmarks is not None:
        marks = landmark_errors(analysis.displacement, analysis.grid, *landmarks)
    found, true = on_working_grid(analysis.classes, analysis), true_classes_of(analysis, truth)
    best = classes_of_true_field(analysis, phases, truth)
    return Comparison(
        Distances.of(error[inside]),
        Distances.of(marks),
        _agreement(found, true),
        _agreement(best, true),
        _percent(true),
        _percent(truth.classes),
    )


def true_classes_of(analysis: Analysis, truth: Truth) -> Labels:
    """Return the true class of every voxel that a result classified; (k, j, i) uint8, 0 elsewhere.

    True V and Q are divided by their means over the same voxels as the result's are. The means of the whole lung are
    others: breath and defects reach the rim and the vessels, which a result leaves out, otherwise than the rest.

    Parameters
    ----------
    analysis : Analysis
    truth : breathing.Truth
        On ``analysis.grid``.
    """
    known = (on_working_grid(analysis.classes, analysis) > 0) & (truth.lungs > 0)
    return true_classes(truth.jacobian, truth.mass_change, known.astype(np.uint8), analysis.parameters.low)


def true_percent(analysis: Analysis, truth: Truth) -> dict[VQClass, float]:
    """Return the true percent of every class in the voxels that a result classified, as of `true_classes_of`."""
    return _percent(true_classes_of(analysis, truth))


def classes_of_true_field(analysis: Analysis, phases: tuple[Phase, Phase], truth: Truth) -> Labels:
    """What the same images give with the true field: (k, j, i) uint8 on ``analysis.grid``, values of `VQClass`."""
    jacobian = np.where(truth.lungs > 0, truth.jacobian, 1).astype(np.float32)
    _, mask, classes = vq(*phases, truth.displacement, jacobian, analysis.parameters)
    return np.where(mask, classes, 0).astype(np.uint8)


def landmark_misses(
    displacement: Float, grid: Grid, exp_points: NDArray[np.float64], insp_points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where the field carries each landmark, seen from where it should: (n, 3), LPS mm.

    Parameters
    ----------
    displacement : (k, j, i, 3) float32 on ``grid``
        mm, LPS.
    exp_points, insp_points : (n, 3) float64
        LPS mm.
    """
    at = grid.indices(exp_points).T
    parts = [ndimage.map_coordinates(displacement[..., c], at, order=1, mode="nearest") for c in range(3)]
    misses: NDArray[np.float64] = exp_points + np.stack(parts, axis=-1) - insp_points
    return misses


def landmark_errors(
    displacement: Float, grid: Grid, exp_points: NDArray[np.float64], insp_points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Target registration error (n,), mm: the lengths of `landmark_misses`."""
    return np.linalg.norm(landmark_misses(displacement, grid, exp_points, insp_points), axis=1)


def dice(a: Mask, b: Mask) -> float:
    """Return the Dice coefficient of two masks; 1 where both are empty."""
    both = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / both if both else 1.0


def _agreement(classes: Labels, truth: Labels) -> ClassAgreement:
    known = (classes > 0) & (truth > 0)
    low_v, low_q = (
        dice(np.isin(classes, names) & known, np.isin(truth, names) & known) for names in (LOW_V, LOW_Q)
    )
    return ClassAgreement(low_v, low_q, _percent(classes[known]))


def _percent(classes: Labels) -> dict[VQClass, float]:
    counts = np.bincount(classes.ravel(), minlength=len(VQClass))
    return {c: 100 * float(counts[c]) / max(int(counts[1:].sum()), 1) for c in VQClass if c}


@dataclass(frozen=True)
class BlandAltman:
    """Hold how far one method lies from another (Bland and Altman 1986, doi:10.1016/S0140-6736(86)90837-8).

    Attributes
    ----------
    n : int
    bias : float
        Mean of found - true.
    low, high : float
        95 % limits of agreement, bias -/+ 1.96 SD.
    """

    n: int
    bias: float
    low: float
    high: float

    @classmethod
    def of(cls, found: NDArray[np.float64], true: NDArray[np.float64]) -> BlandAltman:
        """Of (n,) pairs; those that lack a value are left out.

        Examples
        --------
        >>> limits = BlandAltman.of(np.array([2.0, 3.0, 4.0]), np.array([1.0, 1.0, 1.0]))
        >>> limits.n, limits.bias, round(limits.low, 2), round(limits.high, 2)
        (3, 2.0, 0.04, 3.96)
        """
        error = (found - true)[np.isfinite(found) & np.isfinite(true)]
        bias, half = float(error.mean()), 1.96 * float(error.std(ddof=1))
        return cls(int(error.size), bias, bias - half, bias + half)


@dataclass(frozen=True)
class Agreement:
    """Hold V, Q and classes of one result beside the truth, where both have a class.

    V is over the mean V and Q over the mean Q of both lungs, each of its own map; the true maps are smoothed as the
    result's are.

    Attributes
    ----------
    rho_v, rho_q : float
        Spearman's rho of the maps over voxels two smoothing lengths apart.
    dice : mapping of VQClass to float
        0…1.
    regions : mapping of region to mapping of name to (found, true)
        Names ``"v"``, ``"q"`` (1) and the classes' and ``"total_abnormal"`` (percent).
    """

    rho_v: float
    rho_q: float
    dice: Mapping[VQClass, float]
    regions: Mapping[str, Mapping[str, tuple[float, float]]]


def agreement(analysis: Analysis, truth: Truth) -> Agreement:
    """Compare maps and classes with the truth, region by region.

    Parameters
    ----------
    analysis : Analysis
    truth : breathing.Truth
        On ``analysis.grid``.
    """
    classes, true_class = on_working_grid(analysis.classes, analysis), true_classes_of(analysis, truth)
    known = true_class > 0
    sigma = analysis.parameters.sigma_mm
    v, m = twiced_gaussian((truth.jacobian - 1, truth.mass_change), known, analysis.grid.spacing, sigma)
    maps = {"v": (analysis.maps["V"], v), "q": (analysis.maps["Q"], np.abs(m))}
    apart = known & _every(2 * sigma, analysis.grid)
    rho = {
        name: float(stats.spearmanr(found[apart], true[apart]).statistic)
        for name, (found, true) in maps.items()
    }
    zone = zones(on_working_grid(analysis.lungs, analysis), analysis.grid)
    both = classes, true_class
    regions: dict[str, dict[str, tuple[float, float]]] = {}
    for region, labels in ZONES_OF.items():
        here = known & np.isin(zone, labels)
        percent = [_percent(c[here]) for c in both]
        regions[region] = {
            **{name: _means(pair, here, known) for name, pair in maps.items()},
            **{c.name.lower(): (percent[0][c], percent[1][c]) for c in VQClass if c > VQClass.NORMAL},
            "total_abnormal": (100 - percent[0][VQClass.NORMAL], 100 - percent[1][VQClass.NORMAL]),
        }
    overlap = {c: dice((classes == c) & known, (true_class == c) & known) for c in VQClass if c}
    return Agreement(rho["v"], rho["q"], overlap, regions)


def _means(maps: tuple[Float, Float], here: Mask, everywhere: Mask) -> tuple[float, float]:
    found, true = (float(a[here].mean(dtype=np.float64) / a[everywhere].mean(dtype=np.float64)) for a in maps)
    return found, true


def _every(mm: float, grid: Grid) -> Mask:
    """Return the voxels of a lattice ``mm`` apart."""
    out = np.zeros(grid.shape, dtype=bool)
    k, j, i = (max(1, round(mm / s)) for s in grid.spacing)
    out[::k, ::j, ::i] = True
    return out


def phantom_truth_on(truth: PhantomTruth, grid: Grid) -> Truth:
    """A phantom's truth at the voxels of another grid: that of the phantom's voxel they lie in; 0 outside of it."""
    shape = truth.expiratory.grid.shape
    index = np.rint(truth.expiratory.grid.indices(grid.centres().reshape(-1, 3).astype(np.float64))).astype(
        int
    )
    within = ((index >= 0) & (index < shape)).all(axis=1)
    flat = np.ravel_multi_index(tuple(np.clip(index, 0, np.array(shape) - 1).T), shape)

    def at(values: NDArray[np.generic]) -> NDArray[np.generic]:
        rest = values.shape[3:]
        picked = values.reshape(-1, *rest)[flat]
        picked[~within] = 0
        return picked.reshape(*grid.shape, *rest)

    parts = (truth.displacement, truth.jacobian, truth.mass_change, truth.lungs, truth.classes)
    return Truth(*(at(values) for values in parts))  # type: ignore[arg-type]


def truth_figure(analysis: Analysis, truth: Truth) -> Figure:
    """Draw true classes, classes found and the error of the displacement, in three planes."""
    inside = truth.lungs > 0
    error = np.where(inside, np.linalg.norm(analysis.displacement - truth.displacement, axis=-1), np.nan)
    k, j, i = (int(np.argmax((truth.classes > 1).sum(axis=axes))) for axes in ((1, 2), (0, 2), (0, 1)))
    figure = Figure(figsize=(11, 10), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 3)
    rows = (
        ("true classes", truth.classes),
        ("classes found", on_working_grid(analysis.classes, analysis)),
        ("displacement error, mm", error),
    )
    for row, (title, values) in enumerate(rows):
        axes[row, 0].set_ylabel(title)
        for column, plane in enumerate(PLANES):
            image = section(values, analysis.grid, plane, (k, j, i))
            shape = dict(aspect=aspect(analysis.grid, plane), interpolation="nearest")
            if row < 2:
                axes[row, column].imshow(image, cmap=class_map(), vmin=0, vmax=4, **shape)
            else:
                shown = axes[row, column].imshow(image, cmap="magma", vmin=0, vmax=4, **shape)
            axes[row, column].set_xticks([])
            axes[row, column].set_yticks([])
    figure.colorbar(shown, ax=axes[2, 2], shrink=0.8)
    figure.suptitle(RESEARCH_USE, fontsize=10)
    return figure
