"""One value a case of two measures, or of one measure in groups -> correlation, regression, comparison of groups.

Pearson's r and Spearman's rho with confidence intervals, least squares, Kruskal-Wallis followed by Dunn's test with
Holm's correction, and effect sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ..errors import Rejected

Values = NDArray[np.float64]
LEAST = 4  # number of cases below which a correlation has no confidence interval
LEAST_IN_GROUP = 2


@dataclass(frozen=True)
class Interval:
    """Hold an estimate and its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Correlation:
    """Hold how one measure correlates with another over the cases of a cohort.

    Attributes
    ----------
    n : int
        Cases with both values.
    r : Interval
        Pearson.
    r2 : Interval
        The square of r, with the squared interval of r; its low end is 0 where the interval of r contains 0.
    p : float
        Two-sided p of r = 0.
    rho : Interval
        Spearman.
    rho_p : float
    slope, intercept : float
        Least squares y = intercept + slope x.
    """

    n: int
    r: Interval
    r2: Interval
    p: float
    rho: Interval
    rho_p: float
    slope: float
    intercept: float


def correlate(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Compute correlation and regression of y on x; pairs that lack a value are left out.

    Parameters
    ----------
    x, y : (n,) float

    Raises
    ------
    Rejected
        Where fewer than four pairs are left, or one side does not vary.

    References
    ----------
    Fisher 1921 (interval of r); Bonett and Wright 2000, doi:10.1007/BF02294183 (interval of rho).

    Examples
    --------
    >>> found = correlate([1, 2, 3, 4, 5], [2, 4, 5, 4, 5])
    >>> round(found.r.value, 4), round(found.slope, 4), round(found.intercept, 4)
    (0.7746, 0.6, 2.2)
    """
    x, y = _pairs(x, y)
    if x.size < LEAST:
        raise Rejected(f"{x.size} cases with both values: at least {LEAST} are needed")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise Rejected("all cases have the same value")
    line, rank = stats.linregress(x, y), stats.spearmanr(x, y)
    r, rho = float(line.rvalue), float(rank.statistic)
    interval = _fisher(r, 1 / (x.size - 3))
    return Correlation(
        n=int(x.size),
        r=interval,
        r2=_squared(interval),
        p=float(line.pvalue),
        rho=_fisher(rho, (1 + rho**2 / 2) / (x.size - 3)),
        rho_p=float(rank.pvalue),
        slope=float(line.slope),
        intercept=float(line.intercept),
    )


def regression_band(x: ArrayLike, y: ArrayLike, at: ArrayLike) -> tuple[Values, Values, Values]:
    """Return the regression line and the 95 % confidence band of its mean.

    Returns
    -------
    line, low, high : (m,) float64
        At the (m,) places ``at``.
    """
    x, y = _pairs(x, y)
    at = np.asarray(at, dtype=np.float64)
    fit = stats.linregress(x, y)
    line = fit.intercept + fit.slope * at
    rest = y - (fit.intercept + fit.slope * x)
    error = np.sqrt((rest**2).sum() / (x.size - 2))
    spread = error * np.sqrt(1 / x.size + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    half = stats.t.ppf(0.975, x.size - 2) * spread
    return line, line - half, line + half


@dataclass(frozen=True)
class PairOfGroups:
    """Hold Dunn's test of two groups.

    Attributes
    ----------
    a, b : str
    z : float
        Positive where the ranks of ``a`` are higher.
    p : float
        Holm-corrected over all pairs.
    delta : float
        Cliff's delta: P(a > b) - P(a < b), -1…1.
    """

    a: str
    b: str
    z: float
    p: float
    delta: float


@dataclass(frozen=True)
class GroupComparison:
    """Hold the comparison of one measure in several groups.

    Attributes
    ----------
    sizes : mapping of str to int
    medians : mapping of str to float
    h, p : float
        Kruskal-Wallis.
    epsilon2 : float
        Its effect size H / (n - 1), 0…1 (Tomczak and Tomczak 2014).
    pairs : tuple of PairOfGroups
    """

    sizes: Mapping[str, int]
    medians: Mapping[str, float]
    h: float
    p: float
    epsilon2: float
    pairs: tuple[PairOfGroups, ...]


def compare_groups(groups: Mapping[str, ArrayLike]) -> GroupComparison:
    """Compare groups by Kruskal-Wallis, then every pair by Dunn's test with Holm's correction.

    Parameters
    ----------
    groups : mapping of name to (n,) float
        NaN is left out.

    Raises
    ------
    Rejected
        Where fewer than two groups have two cases, or all values are the same.

    References
    ----------
    Dunn 1964, doi:10.1080/00401706.1964.10490181; Holm 1979; Cliff 1993, doi:10.1037/0033-2909.114.3.494.
    """
    values = {name: _finite(v) for name, v in groups.items()}
    values = {name: v for name, v in values.items() if v.size >= LEAST_IN_GROUP}
    if len(values) < 2:
        raise Rejected(f"fewer than two groups have {LEAST_IN_GROUP} cases")
    everything = np.concatenate(list(values.values()))
    if np.ptp(everything) == 0:
        raise Rejected("all cases have the same value")
    h, p = stats.kruskal(*values.values())
    return GroupComparison(
        sizes={name: int(v.size) for name, v in values.items()},
        medians={name: float(np.median(v)) for name, v in values.items()},
        h=float(h),
        p=float(p),
        epsilon2=float(h) / (everything.size - 1),
        pairs=_dunn(values),
    )


def _dunn(values: Mapping[str, Values]) -> tuple[PairOfGroups, ...]:
    everything = np.concatenate(list(values.values()))
    n, ranks = everything.size, stats.rankdata(everything)
    _, ties = np.unique(everything, return_counts=True)
    variance = n * (n + 1) / 12 - float((ties**3 - ties).sum()) / (12 * (n - 1))
    ends = np.cumsum([v.size for v in values.values()])
    mean_rank = dict(zip(values, (part.mean() for part in np.split(ranks, ends[:-1])), strict=True))
    pairs = list(combinations(values, 2))
    z = [
        (mean_rank[a] - mean_rank[b]) / np.sqrt(variance * (1 / values[a].size + 1 / values[b].size))
        for a, b in pairs
    ]
    p = _holm([2 * float(stats.norm.sf(abs(one))) for one in z])
    return tuple(
        PairOfGroups(a, b, float(one), q, cliffs_delta(values[a], values[b]))
        for (a, b), one, q in zip(pairs, z, p, strict=True)
    )


def _holm(p: Sequence[float]) -> list[float]:
    order = np.argsort(p)
    steps = np.array(p)[order] * np.arange(len(p), 0, -1)
    out = np.empty(len(p))
    out[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(one) for one in out]


def cliffs_delta(a: ArrayLike, b: ArrayLike) -> float:
    """Return P(a > b) - P(a < b) of two samples.

    Examples
    --------
    >>> cliffs_delta([3, 4], [1, 2, 3])
    0.8333333333333334
    """
    return float(np.sign(np.asarray(a)[:, None] - np.asarray(b)[None, :]).mean())


def _fisher(r: float, variance: float) -> Interval:
    z, half = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), stats.norm.ppf(0.975) * np.sqrt(variance)
    return Interval(r, float(np.tanh(z - half)), float(np.tanh(z + half)))


def _squared(r: Interval) -> Interval:
    low, high = sorted((r.low**2, r.high**2))
    return Interval(r.value**2, 0.0 if r.low < 0 < r.high else low, high)


def _pairs(x: ArrayLike, y: ArrayLike) -> tuple[Values, Values]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    return a[both], b[both]


def _finite(values: ArrayLike) -> Values:
    found = np.asarray(values, dtype=np.float64)
    return found[np.isfinite(found)]
