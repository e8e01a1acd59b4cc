"""How firm a fraction is: its threshold, its normalisation, gravity, and the registration's error."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from analysis.parameters import Parameters
from analysis.pipeline.matched import Matched, make_maps
from analysis.pipeline.uncertainty import (
    FRACTIONS,
    THRESHOLDS,
    RegistrationError,
    fraction_sd,
    percents,
    sensitivity,
)
from analysis.registration.registration import RegistrationQuality
from analysis.volume import Float, Grid, Labels
from analysis.vq.classes import VQClass, classify, normalise, normalised, without_gravity

SHAPE = (28, 28, 28)
GRID = Grid.axial(SHAPE, (4.0, 4.0, 4.0))
ALL = np.ones(SHAPE, bool)


def noise(seed: int, sigma: float = 2.0) -> Float:
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), sigma)
    out: Float = (values / values.std()).astype(np.float32)
    return out


def pair_of(seed: int = 0) -> Matched:
    """A lung with smooth differences of J and of blood, fully classified."""
    jacobian = 1.4 + 0.15 * noise(seed)
    m = 0.03 + 0.01 * noise(seed + 1)
    rho = np.float32(0.28) + np.float32(0.02) * noise(seed + 2)
    ct_exp, ct_insp = 1000 * rho - 1000, 1000 * (rho + m) / jacobian - 1000
    return Matched(GRID, jacobian, ct_exp, ct_insp, ALL, ALL, 0.1, None)


PAIR = pair_of()
V = np.exp(0.4 * noise(5))
Q = np.exp(0.4 * noise(6))


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(0.3, 0.9), st.floats(0, 20), st.floats(1e-3, 1e3))
def test_fractions_sum_to_one_and_know_no_scale(seed: int, low: float, min_ml: float, scale: float) -> None:
    v, q = np.exp(0.5 * noise(seed)), np.exp(0.5 * noise(seed + 1))
    mask = noise(seed + 2) > -1
    parameters = Parameters(low=low, min_defect_ml=min_ml)

    def classes(factor: float) -> Labels:
        v_n, q_n = normalised({"V": (v * factor).astype(np.float32), "Q": q}, mask, parameters)
        return classify(v_n, q_n, mask, GRID.voxel_ml, low, min_ml)

    found = classes(1.0)
    counts = np.bincount(found[mask], minlength=5)
    assert counts[VQClass.UNCLASSIFIED] == 0
    assert counts.sum() == mask.sum()
    assert not found[~mask].any()
    # a voxel may lie within rounding of the threshold
    assert np.mean(found != classes(scale)) < 1e-3 or min_ml > 0


@settings(max_examples=12)
@given(st.integers(0, 1000), st.sampled_from([(0, 1), (1, 2), (0, 2)]), st.integers(1, 3))
def test_classes_turn_with_the_patient(seed: int, axes: tuple[int, int], quarters: int) -> None:
    v, q = np.exp(0.5 * noise(seed)), np.exp(0.5 * noise(seed + 1))

    def classes(a: Float, b: Float) -> Labels:
        return classify(normalise(a, ALL), normalise(b, ALL), ALL, GRID.voxel_ml, 0.6, 1.0)

    turned = classes(np.rot90(v, quarters, axes).copy(), np.rot90(q, quarters, axes).copy())
    assert np.mean(turned != np.rot90(classes(v, q), quarters, axes)) < 1e-4


def test_the_percentile_and_a_reference_see_disease_that_is_the_same_everywhere() -> None:
    half = {"V": 0.5 * np.ones(SHAPE, np.float32), "Q": np.full(SHAPE, 0.03, np.float32)}
    by_mean, _ = normalised(half, ALL, Parameters())
    by_reference, q = normalised(
        half, ALL, Parameters(normalisation="reference", reference_v=1.0, reference_q=0.03)
    )
    assert by_mean == pytest.approx(1)
    assert by_reference == pytest.approx(0.5)
    assert q == pytest.approx(1)
    few = {"V": V, "Q": Q}
    v, _ = normalised(few, ALL, Parameters(normalisation="percentile"))
    assert np.percentile(v, 90) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("up", [(0, -1, 0), (0, 1, 0), (1, 0, 0)])
def test_gravity_is_taken_out_and_nothing_else(up: tuple[int, int, int]) -> None:
    height = GRID.centres() @ np.array(up, dtype=np.float32)
    gradient = np.exp(-0.01 * (height - height.mean())).astype(np.float32)
    level = without_gravity(gradient, ALL, height)
    assert level == pytest.approx(1, abs=1e-4)
    disease = np.ones(SHAPE, np.float32)
    disease[10:14, 12:16, 12:16] = 0.2
    found = without_gravity(gradient * disease, ALL, height)
    assert np.corrcoef(found.ravel(), disease.ravel())[0, 1] > 0.97
    v_n, _ = normalised({"V": gradient, "Q": Q}, ALL, Parameters(gravity=True), height)
    assert v_n == pytest.approx(1, abs=1e-4)


def test_sensitivity_holds_the_result_at_its_threshold_and_grows_with_it() -> None:
    regions = {"lungs": ALL, "none": ~ALL}
    curves = sensitivity(V, Q, ALL, GRID.voxel_ml, 1.0, regions)
    classes = classify(V, Q, ALL, GRID.voxel_ml, 0.60, 1.0)
    for name in FRACTIONS:
        assert curves["lungs"][name][THRESHOLDS.index(0.60)] == percents(classes, regions)["lungs"][name]
    total = curves["lungs"]["total_abnormal"]
    assert len(total) == len(THRESHOLDS)
    assert list(total) == sorted(total)
    assert np.isnan(curves["none"]["shunt"]).all()


def test_the_uncertainty_grows_with_the_error_and_is_zero_without() -> None:
    regions = {"lungs": ALL, "half": np.arange(28)[:, None, None] * ALL < 14}
    none, small, large = (
        fraction_sd(PAIR, regions, Parameters(), RegistrationError(e, 0.0)) for e in (0.0, 0.3, 0.9)
    )
    for name in FRACTIONS:
        assert none["lungs"][name] == 0
        assert 0 < small["lungs"][name] < large["lungs"][name]
    assert small["half"]["total_abnormal"] > small["lungs"]["total_abnormal"] / 3


def test_the_uncertainty_covers_errors_of_the_size_it_was_told() -> None:
    """Fractions of a field with a known error lie within two standard uncertainties of the right ones."""
    parameters, regions = Parameters(), {"lungs": ALL}
    _, v_n, q_n = make_maps(PAIR, parameters)
    right = percents(classify(v_n, q_n, ALL, GRID.voxel_ml, 0.6, 1.0), regions)["lungs"]
    sd = fraction_sd(PAIR, regions, parameters, RegistrationError(0.6, 0.0))["lungs"]
    rng, within = np.random.default_rng(7), []
    for _ in range(12):
        w = np.stack([ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.5) for _ in range(3)], axis=-1)
        w *= 0.6 / np.sqrt((w**2).sum(axis=-1).mean())
        divergence = sum(np.gradient(w[..., a], 4.0, axis=a) for a in range(3))
        at = np.indices(SHAPE) + np.moveaxis(w, -1, 0) / 4.0
        moved = [
            ndimage.map_coordinates(a, at, order=1, mode="nearest") for a in (PAIR.jacobian, PAIR.ct_insp)
        ]
        wrong = replace(
            PAIR,
            jacobian=(moved[0] * (1 + divergence)).astype(np.float32),
            ct_insp=moved[1].astype(np.float32),
        )
        _, v_n, q_n = make_maps(wrong, parameters)
        found = percents(classify(v_n, q_n, ALL, GRID.voxel_ml, 0.6, 1.0), regions)["lungs"]
        within += [abs(found[name] - right[name]) < 2 * sd[name] for name in FRACTIONS]
    assert 0.8 < np.mean(within) <= 1


def test_a_volume_that_does_not_close_makes_fractions_less_certain() -> None:
    regions = {"lungs": ALL}
    sd = [
        fraction_sd(PAIR, regions, Parameters(), RegistrationError(0.3, scale))["lungs"]["dead_space"]
        for scale in (0.0, 0.03)
    ]
    assert sd[1] > 1.2 * sd[0]


def test_an_unknown_error_makes_an_unknown_uncertainty() -> None:
    quality = RegistrationQuality(0.0, 0.0, 0.04, 0.9, float("nan"))
    sd = fraction_sd(PAIR, {"lungs": ALL}, Parameters(), RegistrationError.of(quality))
    assert np.isnan(list(sd["lungs"].values())).all()
