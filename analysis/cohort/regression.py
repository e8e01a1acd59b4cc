"""One outcome and several measures a case -> partial correlation, and regression on all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ..errors import Rejected
from .statistics import Interval

Values = NDArray[np.float64]


@dataclass(frozen=True)
class PartialCorrelation:
    """Hold how two measures correlate when what covariates explain is taken out of both.

    Attributes
    ----------
    n : int
        Cases that have all values.
    r : Interval
        Pearson's r of the two residuals, with Fisher's interval for n - 3 - k, k the number of covariates.
    p : float
        Two-sided, of a t with n - 2 - k degrees of freedom.
    """

    n: int
    r: Interval
    p: float


def partial_correlation(
    x: ArrayLike, y: ArrayLike, covariates: Mapping[str, ArrayLike]
) -> PartialCorrelation:
    """Correlate x and y, adjusted for covariates; cases that lack a value are left out.

    Parameters
    ----------
    x, y : (n,) float
    covariates : mapping of name to (n,) float

    Raises
    ------
    Rejected
        Where too few cases are left, or covariates leave nothing of x or y.

    References
    ----------
    Fisher 1924, "The distribution of the partial correlation coefficient", Metron 3, 329-332.

    Examples
    --------
    >>> found = partial_correlation([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 7, 6], {"age": [1, 2, 2, 3, 3, 5]})
    >>> round(found.r.value, 4), found.n
    (0.869, 6)
    """
    table = _complete({"x": x, "y": y, **covariates})
    k = len(covariates)
    n = len(table["x"])
    if n < 5 + k:
        raise Rejected(f"{n} cases with all values: at least {5 + k} are needed for {k} covariates")
    if np.ptp(table["x"]) == 0 or np.ptp(table["y"]) == 0:
        raise Rejected("all cases have the same value")
    design = _design([table[name] for name in covariates], n)
    left = [table[name] - design @ np.linalg.lstsq(design, table[name], rcond=None)[0] for name in ("x", "y")]
    for name, rest in zip(("x", "y"), left, strict=True):
        if float(np.linalg.norm(rest)) <= 1e-9 * float(np.linalg.norm(table[name])):
            raise Rejected("the covariates leave nothing to correlate")
    r = float(np.clip(left[0] @ left[1] / np.linalg.norm(left[0]) / np.linalg.norm(left[1]), -1, 1))
    half = float(stats.norm.ppf(0.975)) / np.sqrt(n - 3 - k)
    z = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    t = float(r * np.sqrt((n - 2 - k) / (1 - r**2))) if abs(r) < 1 else float("inf")
    interval = Interval(r, float(np.tanh(z - half)), float(np.tanh(z + half)))
    return PartialCorrelation(n, interval, float(2 * stats.t.sf(abs(t), n - 2 - k)))


@dataclass(frozen=True)
class Coefficient:
    """Hold the part of one measure in a regression.

    Attributes
    ----------
    slope : Interval
        Change of the outcome for one unit of the measure, all others unchanged.
    beta : float
        The same in standard deviations of both.
    p : float
        Two-sided p of a slope of 0.
    """

    slope: Interval
    beta: float
    p: float


@dataclass(frozen=True)
class Regression:
    """Hold the least-squares regression of an outcome on several measures.

    Attributes
    ----------
    n : int
        Cases that have all values.
    r2, adjusted_r2 : float
    p : float
        Of the F test that no measure tells anything.
    coefficients : mapping of measure to Coefficient
    """

    n: int
    r2: float
    adjusted_r2: float
    p: float
    coefficients: Mapping[str, Coefficient]


def regress(y: ArrayLike, measures: Mapping[str, ArrayLike]) -> Regression:
    """Regress an outcome on several measures by ordinary least squares; cases that lack a value are left out.

    Parameters
    ----------
    y : (n,) float
    measures : mapping of name to (n,) float

    Raises
    ------
    Rejected
        Where there are not at least two cases more than coefficients, the outcome does not vary, or measures determine
        each other.
    """
    table = _complete({"y": y, **measures})
    outcome, columns = table.pop("y"), list(table.values())
    n, k = outcome.size, len(columns)
    if n < k + 3:
        raise Rejected(f"{n} cases with all values: at least {k + 3} are needed for {k} measures")
    if np.ptp(outcome) == 0:
        raise Rejected("all cases have the same value")
    design = _design(columns, n)
    scale = np.linalg.norm(design, axis=0)
    if not scale.all() or np.linalg.matrix_rank(design / np.where(scale > 0, scale, 1)) < k + 1:
        raise Rejected("the measures determine each other, or one does not vary")
    solution = np.linalg.lstsq(design, outcome, rcond=None)[0]
    rest, free = outcome - design @ solution, n - k - 1
    variance = float(rest @ rest) / free
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    r2 = 1 - float(rest @ rest) / float(((outcome - outcome.mean()) ** 2).sum())
    f = (r2 / k) / max((1 - r2) / free, 1e-300)
    half = float(stats.t.ppf(0.975, free))
    found = {
        name: Coefficient(
            Interval(float(b), float(b - half * e), float(b + half * e)),
            float(b * column.std() / outcome.std()),
            float(2 * stats.t.sf(abs(b) / max(e, 1e-300), free)),
        )
        for name, column, b, e in zip(table, columns, solution[1:], errors[1:], strict=True)
    }
    return Regression(n, r2, 1 - (1 - r2) * (n - 1) / free, float(stats.f.sf(f, k, free)), found)


def _complete(columns: Mapping[str, ArrayLike]) -> dict[str, Values]:
    """Return the columns without the cases that lack a value in any of them."""
    table = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    whole = np.logical_and.reduce([np.isfinite(values) for values in table.values()])
    return {name: values[whole] for name, values in table.items()}


def _design(columns: list[Values], n: int) -> Values:
    return np.column_stack([np.ones(n), *columns])
