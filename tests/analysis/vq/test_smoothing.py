"""Local means: what each keeps of a map, at the mask's border and beside what is not known."""

import numpy as np

from analysis.vq.smoothing import masked_gaussian, twiced_gaussian

SPACING, SIGMA_MM = (2.0, 2.0, 2.0), 6.0
SHAPE = (40, 40, 40)
ALL = np.ones(SHAPE, bool)
K = np.indices(SHAPE)[0].astype(np.float32)
CORE = (slice(18, 22),) * 3


def test_a_map_that_is_the_same_everywhere_stays_so_and_nothing_lies_outside_of_the_mask() -> None:
    inside = K > 10
    flat = np.where(inside, np.float32(3), np.float32(np.nan))
    for mean in (masked_gaussian, twiced_gaussian):
        (found,) = mean([flat], inside, SPACING, SIGMA_MM)
        assert np.abs(found[inside] - 3).max() < 1e-5
        assert not found[~inside].any()


def test_a_gaussian_lifts_a_bowl_by_its_curvature_and_twicing_does_not() -> None:
    """The mean of x² under a Gaussian is x² + sigma² in one direction; the twiced kernel has no second moment."""
    bowl = (2 * (K - 20)) ** 2
    (once,), (twice,) = (mean([bowl], ALL, SPACING, SIGMA_MM) for mean in (masked_gaussian, twiced_gaussian))
    assert np.abs((once - bowl)[CORE] / SIGMA_MM**2 - 1).max() < 0.05
    assert np.abs((twice - bowl)[CORE] / SIGMA_MM**2).max() < 0.05


def test_a_slope_is_bent_less_at_the_border() -> None:
    (once,), (twice,) = (mean([K], ALL, SPACING, SIGMA_MM) for mean in (masked_gaussian, twiced_gaussian))
    assert np.abs(twice - K)[0, 20, 20] < 0.6 * np.abs(once - K)[0, 20, 20]


def test_noise_is_what_a_plain_gaussian_of_a_smaller_sigma_leaves() -> None:
    noise = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    (plain,) = masked_gaussian([noise], ALL, SPACING, SIGMA_MM / 1.3)
    (twice,) = twiced_gaussian([noise], ALL, SPACING, SIGMA_MM)
    middle = (slice(8, -8),) * 3
    assert 0.9 < twice[middle].std() / plain[middle].std() < 1.1


def test_what_counts_less_moves_the_mean_less() -> None:
    values = np.where(K < 20, np.float32(1), np.float32(0))
    certainty = np.where(K < 20, np.float32(0.05), np.float32(1))
    for mean in (masked_gaussian, twiced_gaussian):
        (even,) = mean([values], ALL, SPACING, SIGMA_MM)
        (found,) = mean([values], ALL, SPACING, SIGMA_MM, certainty)
        assert found[20, 20, 20] < 0.3 * even[20, 20, 20]
