"""Statistics of a cohort against worked examples and independent references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.cohort.statistics import cliffs_delta, compare_groups, correlate, regression_band
from analysis.errors import Rejected


def test_anscombe_s_first_data_set_gives_its_published_line() -> None:
    x = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
    y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]
    found = correlate(x, y)
    assert found.n == 11
    assert found.slope == pytest.approx(0.500, abs=5e-4)
    assert found.intercept == pytest.approx(3.00, abs=5e-3)
    assert found.r2.value == pytest.approx(0.667, abs=5e-4)
    interval = stats.pearsonr(x, y).confidence_interval()
    assert (found.r.low, found.r.high) == pytest.approx((interval.low, interval.high))


def test_the_study_s_interval_of_r_squared() -> None:
    """r² = 0.67 of 46 cases: 95 % interval 0.48 to 0.80."""
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 46))
    noise -= np.polyval(np.polyfit(x, noise, 1), x)
    y = -np.sqrt(0.67) * x / x.std() + np.sqrt(0.33) * noise / noise.std()
    found = correlate(x, y)
    assert found.r2.value == pytest.approx(0.67)
    assert (found.r2.low, found.r2.high) == pytest.approx((0.48, 0.80), abs=0.006)
    assert found.r.value < 0


def test_an_interval_of_r_that_holds_0_gives_r_squared_from_0() -> None:
    found = correlate([1, 2, 3, 4, 5, 6], [2, 1, 2, 1, 2, 1.5])
    assert found.r.low < 0 < found.r.high
    assert (found.r2.low, found.r2.high) == (0, max(found.r.low**2, found.r.high**2))


def test_pairs_without_a_value_are_left_out_and_too_few_are_refused() -> None:
    assert correlate([1, 2, 3, 4, np.nan, 6], [1, 2, 4, 3, 5, np.nan]).n == 4
    with pytest.raises(Rejected, match="3 cases"):
        correlate([1, 2, 3, np.nan], [1, 2, 3, 4])
    with pytest.raises(Rejected, match="same value"):
        correlate([1, 1, 1, 1], [1, 2, 3, 4])


def test_the_band_holds_the_true_line_in_95_of_100_draws() -> None:
    intercept, slope = 1.0, -0.7
    rng = np.random.default_rng(1)
    x, at = np.linspace(0, 1, 30), np.array([0.2])
    held = 0
    for _ in range(200):
        _, low, high = regression_band(x, intercept + slope * x + rng.normal(0, 0.3, 30), at)
        held += int(low[0] <= intercept + slope * 0.2 <= high[0])
    assert 180 <= held <= 200


def test_dunn_and_holm_agree_with_scikit_posthocs() -> None:
    """scikit-posthocs 0.17.1: posthoc_dunn([a, b, c], p_adjust="holm"); ties included."""
    a, b, c = [1, 2, 3, 5, 1], [12, 31, 54, 12], [10, 12, 6, 74, 11]
    found = compare_groups({"a": a, "b": b, "c": c})
    reference = stats.kruskal(a, b, c)
    assert found.h == pytest.approx(reference.statistic)
    assert found.p == pytest.approx(reference.pvalue)
    assert [(p.a, p.b) for p in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [p.p for p in found.pairs] == pytest.approx([0.009345, 0.045174, 0.420113], abs=1e-6)
    assert found.pairs[0].z < 0
    assert found.pairs[0].delta == -1
    assert found.epsilon2 == pytest.approx(reference.statistic / 13)


@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=8), st.lists(st.integers(0, 9), min_size=2, max_size=8)
)
def test_cliff_s_delta_is_antisymmetric_and_that_of_mann_whitney(a: list[int], b: list[int]) -> None:
    u = stats.mannwhitneyu(a, b).statistic
    assert cliffs_delta(a, b) == pytest.approx(2 * u / (len(a) * len(b)) - 1)
    assert cliffs_delta(a, b) == pytest.approx(-cliffs_delta(b, a))


def test_one_group_or_groups_of_one_case_are_refused() -> None:
    with pytest.raises(Rejected, match="fewer than two groups"):
        compare_groups({"a": [1, 2, 3], "b": [4, np.nan]})
