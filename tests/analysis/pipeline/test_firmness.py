"""How uncertain V, Q and the fractions are: nothing without an error, more with a larger one, and by enough."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from smooth import ALL, GRID, SHAPE, noise

from analysis.parameters import Parameters
from analysis.pipeline.firmness import Errors, firmness
from analysis.pipeline.matched import Matched, make_maps
from analysis.pipeline.uncertainty import FRACTIONS, percents
from analysis.registration.registration import RegistrationQuality
from analysis.volume import Grid
from analysis.vq.classes import classify


def pair_of(seed: int = 0) -> Matched:
    """A lung with smooth differences of J and of blood, fully classified."""
    jacobian = 1.4 + 0.15 * noise(seed)
    m = 0.03 + 0.01 * noise(seed + 1)
    rho = np.float32(0.28) + np.float32(0.02) * noise(seed + 2)
    ct_exp, ct_insp = 1000 * rho - 1000, 1000 * (rho + m) / jacobian - 1000
    return Matched(GRID, jacobian, ct_exp, ct_insp, ALL, ALL, ~ALL, 0.1, None)


PAIR = pair_of()


def test_the_uncertainty_grows_with_the_error_and_is_zero_without() -> None:
    regions = {"lungs": ALL, "half": np.arange(28)[:, None, None] * ALL < 14}
    none, small, large = (
        firmness(PAIR, regions, Parameters(), Errors(e, 0.0)).percent for e in (0.0, 0.3, 0.9)
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
    sd = firmness(PAIR, regions, parameters, Errors(0.6, 0.0)).percent["lungs"]
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
        firmness(PAIR, regions, Parameters(), Errors(0.3, scale)).percent["lungs"]["dead_space"]
        for scale in (0.0, 0.03)
    ]
    assert sd[1] > 1.2 * sd[0]


def test_an_unknown_error_makes_an_unknown_uncertainty() -> None:
    quality = RegistrationQuality(0.0, 0.0, 0.04, 0.9, float("nan"))
    found = firmness(PAIR, {"lungs": ALL}, Parameters(), Errors.of(quality))
    assert np.isnan(list(found.percent["lungs"].values())).all()
    assert np.isnan(found.v).all()
    assert np.isnan(found.q).all()


def test_the_map_of_uncertainty_covers_the_error_it_was_told_in_every_voxel() -> None:
    """The standard deviation of a factor of J known to all voxels alike is that of V before it is normalised."""
    even = replace(PAIR, jacobian=np.full(SHAPE, 1.4, np.float32))
    still = firmness(even, {"lungs": ALL}, Parameters(), Errors(0.0, 0.05))
    assert np.abs(still.v).max() < 1e-4  # a factor of all of J is gone once V is over its mean
    assert still.q.mean() > 0.05
    moved = firmness(even, {"lungs": ALL}, Parameters(), Errors(0.6, 0.0))
    twice = firmness(even, {"lungs": ALL}, Parameters(), Errors(1.2, 0.0))
    assert twice.v.mean() == pytest.approx(2 * moved.v.mean(), rel=0.05)


def test_tissue_that_does_not_breathe_makes_q_less_certain_and_v_not() -> None:
    found = firmness(PAIR, {"lungs": ALL}, Parameters(), Errors(0.0, 0.0, share=0.02))
    q = 0.02 * 0.4 / 0.03
    assert found.q.mean() == pytest.approx(q, rel=0.4)
    assert np.abs(found.v).max() == 0


def test_smoothing_makes_the_edges_of_defects_uncertain() -> None:
    jacobian = np.full(SHAPE, 1.4, np.float32)
    jacobian[10:18, 10:18, 10:18] = 1.05
    defect = replace(PAIR, jacobian=jacobian)
    found = firmness(defect, {"lungs": ALL}, Parameters(), Errors(0.0, 0.0, smoothing=1.0))
    assert found.v[14, 14, 10] > 10 * found.v[2, 2, 2]
    assert found.percent["lungs"]["shunt"] > 0


def test_a_level_that_is_not_known_makes_v_and_q_uncertain_by_their_own_share() -> None:
    """Ten percent of themselves, in every voxel; of the fractions, what a tenth carries over the threshold."""
    v = np.full(SHAPE, 1.4, np.float32)
    v[:10] = 1.14  # 0.55 of its mean: low, but for V raised by a tenth
    v[10:20] = 1.25
    even = np.full(SHAPE, -720, np.float32)
    pair = replace(PAIR, jacobian=v, ct_exp=even, ct_insp=np.float32(310) / v - 1000)
    found = firmness(pair, {"lungs": ALL}, Parameters(sigma_mm=0.1), Errors(0.0, 0.0, level=0.1))
    share = np.hypot(0.1, 1 - 1 / 1.1) / np.sqrt(2)
    assert found.v == pytest.approx(share * (v - 1) / (v - 1).mean(), rel=0.01)
    assert found.q == pytest.approx(share, rel=0.01)
    assert found.percent["lungs"]["shunt"] == pytest.approx(100 * 10 / 28 / np.sqrt(2), rel=0.01)
    assert found.percent["lungs"]["dead_space"] == 0


def test_uncertainty_lies_in_every_voxel_of_a_finer_grid_and_nowhere_else() -> None:
    grid = Grid.axial((29, 30, 31), (2.0, 2.0, 2.0))
    inside = np.ones(grid.shape, bool)
    inside[:3] = False
    rng = np.random.default_rng(3)
    fine = [rng.normal(a, s, grid.shape).astype(np.float32) for a, s in ((1.4, 0.1), (-720, 20), (-790, 20))]
    pair = Matched(grid, fine[0], fine[1], fine[2], inside, inside, ~inside, 0.1, None)
    found = firmness(pair, {"lungs": inside}, Parameters(), Errors(0.3, 0.01, 0.01, 1.0, 0.1))
    for values in (found.v, found.q):
        assert values.shape == grid.shape
        assert (np.isfinite(values) == inside).all()
