"""Partial correlation and regression: against formulas of their own, and laws that hold for any cohort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.cohort.regression import partial_correlation, regress
from analysis.cohort.statistics import correlate
from analysis.errors import Rejected


def cohort(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    age, sex = rng.uniform(30, 80, n), rng.integers(0, 2, n).astype(float)
    x = 0.3 * age + rng.normal(size=n) * 5
    return x, 90 - 0.6 * x - 0.2 * age + 3 * sex + rng.normal(size=n) * 4, {"age": age, "sex": sex}


@given(st.integers(0, 10_000))
def test_the_partial_correlation_is_that_of_the_inverse_covariance_matrix(seed: int) -> None:
    x, y, covariates = cohort(seed)
    precision = np.linalg.inv(np.cov(np.vstack([x, y, *covariates.values()])))
    expected = -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
    found = partial_correlation(x, y, covariates)
    assert found.r.value == pytest.approx(expected, abs=1e-9)
    assert found.r.low < found.r.value < found.r.high


@given(st.integers(0, 10_000))
def test_the_p_of_a_slope_is_the_p_of_its_partial_correlation(seed: int) -> None:
    x, y, covariates = cohort(seed)
    slope = regress(y, {"x": x, **covariates}).coefficients["x"]
    assert slope.p == pytest.approx(partial_correlation(x, y, covariates).p, rel=1e-6, abs=1e-12)


def test_one_measure_gives_the_simple_regression() -> None:
    x, y, _ = cohort(3)
    found, simple = regress(y, {"x": x}), stats.linregress(x, y)
    one = found.coefficients["x"]
    assert one.slope.value == pytest.approx(simple.slope)
    assert one.p == pytest.approx(simple.pvalue)
    assert one.beta == pytest.approx(simple.rvalue)
    assert found.r2 == pytest.approx(simple.rvalue**2)
    half = stats.t.ppf(0.975, 38) * simple.stderr
    assert one.slope.high == pytest.approx(simple.slope + half)


def test_without_covariates_the_partial_correlation_is_pearsons() -> None:
    x, y, _ = cohort(4)
    found, plain = partial_correlation(x, y, {}), correlate(x, y)
    assert (found.r.value, found.r.low, found.p) == pytest.approx((plain.r.value, plain.r.low, plain.p))


def test_a_known_plane_is_recovered_and_cases_that_lack_a_value_are_left_out() -> None:
    x, _, covariates = cohort(5)
    y = 80 - 0.5 * x + 0.25 * covariates["age"] + 1e-6 * np.random.default_rng(0).normal(size=40)
    y[:3] = np.nan
    found = regress(y, {"x": x, "age": covariates["age"]})
    assert found.n == 37
    assert found.coefficients["x"].slope.value == pytest.approx(-0.5, abs=1e-5)
    assert found.coefficients["age"].slope.value == pytest.approx(0.25, abs=1e-5)


def test_what_cannot_be_told_apart_is_refused() -> None:
    x, y, _ = cohort(6)
    with pytest.raises(Rejected, match="determine each other"):
        regress(y, {"x": x, "twice": 2 * x})
    with pytest.raises(Rejected, match="determine each other, or one does not vary"):
        regress(y, {"x": x, "all the same": np.full(40, 3.0)})
    with pytest.raises(Rejected, match="leave nothing to correlate"):
        partial_correlation(x, y, {"copy": x})
    with pytest.raises(Rejected, match="4 cases with all values: at least 7"):
        partial_correlation(x[:4], y[:4], {"a": x[:4], "b": y[:4]})
