"""How firm a fraction is against another threshold, its normalisation and gravity; what lies near the threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smooth import ALL, GRID, SHAPE, noise

from analysis.parameters import Parameters
from analysis.pipeline.uncertainty import (
    FRACTIONS,
    THRESHOLDS,
    borderline,
    percents,
    sensitivity,
)
from analysis.volume import Float, Labels
from analysis.vq.classes import VQClass, classify, normalise, normalised, without_gravity

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


def test_a_fraction_is_borderline_where_v_or_q_lies_within_one_uncertainty_of_the_threshold() -> None:
    classes = classify(V, Q, ALL, GRID.voxel_ml, 0.60, 0.0)
    regions = {"lungs": ALL, "none": ~ALL}
    sd = np.full(SHAPE, 0.1, np.float32)
    narrow, wide = (
        borderline(classes, (V, Q), (np.full(SHAPE, s, np.float32), sd), 0.60, regions)["lungs"]
        for s in (0.01, 0.1)
    )
    shunt = classes == VQClass.SHUNT
    near = (np.abs(V - 0.6) < 0.1) | (np.abs(Q - 0.6) < 0.1)
    assert wide["shunt"] == pytest.approx(100 * near[shunt].mean())
    assert narrow["shunt"] < wide["shunt"]
    nothing = np.zeros(SHAPE, np.float32)
    assert set(borderline(classes, (V, Q), (nothing, nothing), 0.60, regions)["lungs"].values()) == {0.0}
    assert np.isnan(borderline(classes, (V, Q), (sd, sd), 0.60, regions)["none"]["shunt"])
    unknown = np.full(SHAPE, np.nan, np.float32)
    assert np.isnan(borderline(classes, (V, Q), (unknown, unknown), 0.60, regions)["lungs"]["shunt"])
