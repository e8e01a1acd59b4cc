"""Comparing with the truth: the truth itself is perfect, and a coarse phantom is found again."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.figures.views import on_working_grid
from analysis.pipeline.pipeline import Parameters, Phase, analyse_phases
from analysis.truth.phantom import ThoraxShape, thorax_phantom
from analysis.truth.validation import (
    BlandAltman,
    Distances,
    agreement,
    compare,
    dice,
    landmark_errors,
    phantom_truth_on,
)
from analysis.volume import Grid
from analysis.vq.classes import VQClass


def test_a_field_carries_landmarks_by_what_it_says() -> None:
    grid = Grid.axial((10, 10, 10), (2.0, 2.0, 2.0))
    points = grid.points(np.array([[2.0, 3, 4], [5, 5, 5]]))
    field = np.broadcast_to(np.array([1, -2, 3], np.float32), (*grid.shape, 3))
    errors = landmark_errors(field, grid, points, points + np.array([1, -2, 3]))
    np.testing.assert_allclose(errors, 0, atol=1e-5)
    np.testing.assert_allclose(landmark_errors(field, grid, points, points), np.sqrt(14), rtol=1e-5)


def test_distances_and_dice_of_nothing() -> None:
    assert Distances.of(np.empty(0)).n == 0
    assert np.isnan(Distances.of(np.empty(0)).mean)
    none = np.zeros((2, 2, 2), bool)
    assert dice(none, none) == 1
    assert dice(none, ~none) == 0


def test_a_phantom_is_found_again_and_the_true_field_does_no_worse() -> None:
    phantom = thorax_phantom(shape=ThoraxShape(in_plane_mm=2.5, slice_mm=4))
    parameters = Parameters(accept_failed_checks=True)
    phases = Phase.of(phantom.inspiratory, parameters), Phase.of(phantom.expiratory, parameters)
    analysis = analyse_phases(*phases, parameters)
    truth = phantom_truth_on(phantom, analysis.grid)
    assert (truth.lungs > 0).sum() == (phantom.lungs > 0).sum()
    found = compare(analysis, phases, truth)
    assert found.error.mean < 2.0
    assert found.best.low_v > 0.85
    assert found.best.low_q > 0.75
    assert found.found.low_v > 0.8 * found.best.low_v
    for percent in (found.truth, found.found.percent, found.best.percent):
        assert sum(percent.values()) == pytest.approx(100)
    assert found.whole[VQClass.NORMAL] == pytest.approx(100 * phantom.fractions()[VQClass.NORMAL])
    known = (on_working_grid(analysis.classes, analysis) > 0) & (truth.classes > 0)
    v, q = truth.jacobian[known] - 1, np.abs(truth.mass_change[known])
    low = (v < 0.6 * v.mean()) + 2 * (q < 0.6 * q.mean())
    for n, c in enumerate((VQClass.NORMAL, VQClass.SHUNT, VQClass.DEAD_SPACE, VQClass.MATCHED_DEFECT)):
        assert found.truth[c] == pytest.approx(100 * (low == n).mean())
    perfect = replace(analysis, classes=phantom.classes, expiratory=phantom.expiratory.grid)
    same = compare(perfect, phases, truth)
    assert same.found.percent == pytest.approx(same.truth)
    beside = agreement(analysis, truth)
    assert beside.rho_v > 0.6
    assert beside.rho_q > 0.4
    assert beside.dice[VQClass.NORMAL] > 0.87
    assert beside.regions["lungs"]["v"] == pytest.approx((1, 1))
    for values in beside.regions.values():
        assert values["v"][0] == pytest.approx(values["v"][1], abs=0.25)
        parts = [values[c.name.lower()] for c in VQClass if c > VQClass.NORMAL]
        assert np.sum(parts, axis=0) == pytest.approx(values["total_abnormal"])


def test_limits_of_agreement_hold_95_of_100_errors_and_leave_out_what_is_missing() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=4000)
    found = true + rng.normal(0.5, 2.0, true.size)
    found[7] = np.nan
    limits = BlandAltman.of(found, true)
    assert limits.n == 3999
    assert limits.bias == pytest.approx(0.5, abs=0.1)
    assert np.mean((found - true > limits.low) & (found - true < limits.high)) == pytest.approx(
        0.95, abs=0.01
    )
