"""Every way to make V and Q: on blocks that are known exactly, and the laws they keep."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import Rejected
from analysis.parameters import Parameters
from analysis.pipeline.matched import Deposits, Matched, mass_map, smooth, ventilation_map
from analysis.truth.phantom import BLOCKS, Block
from analysis.volume import Grid
from analysis.vq.perfusion import deposit
from analysis.vq.subregions import fit
from analysis.vq.ventilation import VENTILATIONS, hu_ventilation

SHAPE, SPACING = (24, 24, 24), (2.0, 2.0, 2.0)
F = 0.122286


def block(one: Block) -> Matched:
    """A homogeneous lung that fills its grid: both phases at the same points, and every voxel deposited at home."""
    full = np.ones(SHAPE)
    mass = full * (one.rho_exp + one.mass_change)
    deposits = Deposits(full * one.jacobian, mass, full * one.jacobian)
    exp, insp = (np.full(SHAPE, v, np.float32) for v in (one.hu_exp, one.hu_insp))
    inside = np.ones(SHAPE, bool)
    jacobian = np.full(SHAPE, one.jacobian, np.float32)
    return Matched(Grid.axial(SHAPE, SPACING), jacobian, exp, insp, inside, inside, ~inside, F, deposits)


# V by every method, in the order of the blocks: normal, dead space, shunt, matched defect
V = {
    "jacobian": (1.0, 1.0, 0.25, 0.25),
    "hu": (1.0417, 1.3117, 0.1302, 0.2990),
    "mass-corrected hu": (1.3389, 1.6420, 0.3160, 0.5054),
    "mcvc": (0.7500, 0.9444, 0.0938, 0.2153),
    "ijf": (1.0, 1.0, 0.25, 0.25),
    "delta svg": (2.6786, 3.3730, 0.3348, 0.7688),
}


def test_the_table_names_every_way_to_make_ventilation() -> None:
    assert V.keys() == VENTILATIONS.keys()
    assert next(iter(VENTILATIONS)) == Parameters().ventilation


@pytest.mark.parametrize("method", V)
@pytest.mark.parametrize("n", range(4), ids=[b.vq_class.name for b in BLOCKS])
def test_every_ventilation_of_a_block_has_the_digits_of_the_table(method: Any, n: int) -> None:
    v, _ = ventilation_map(block(BLOCKS[n]), Parameters(ventilation=method))
    assert v == pytest.approx(V[method][n], abs=6e-5)


@pytest.mark.parametrize("method", ["gaussian", "subregions", "deposit"])
@pytest.mark.parametrize("one", BLOCKS, ids=lambda b: b.vq_class.name)
def test_every_perfusion_of_a_block_is_its_mass_change(method: Any, one: Block) -> None:
    m, _ = mass_map(block(one), Parameters(perfusion=method))
    assert m == pytest.approx(one.mass_change, abs=6e-5)


def test_blood_that_does_not_grow_hardly_reaches_q_of_the_lung_beside_it() -> None:
    one = BLOCKS[0]
    even = block(one)
    vessel = np.zeros(SHAPE, bool)
    vessel[10:14] = True
    blood = 1000 * 0.1 * (one.jacobian - 1) / one.jacobian
    beside = replace(even, ct_insp=(even.ct_insp + blood * vessel).astype(np.float32))
    near = (slice(7, 10),)
    plain, apart = (smooth(replace(beside, vessels=v), Parameters()) for v in (even.vessels, vessel))
    assert plain["Q"][near].mean() > 1.5 * one.mass_change
    assert apart["Q"][near].mean() == pytest.approx(one.mass_change, rel=0.1)
    for maps in (plain, apart):
        assert maps["V"] == pytest.approx(one.jacobian - 1, abs=1e-5)


@given(st.floats(0.05, 0.5), st.floats(1.02, 2.5), st.floats(-0.02, 0.06))
def test_ventilation_from_hu_is_the_change_of_air_exactly_where_no_mass_moves(
    rho: float, jacobian: float, m: float
) -> None:
    insp, exp = np.array([1000 * (rho + m) / jacobian - 1000]), np.array([1000 * rho - 1000])
    air = (jacobian * -insp + exp) / -exp
    error = hu_ventilation(insp, exp)[0] - air[0]
    if abs(m) < 1e-9:
        assert error == pytest.approx(0, abs=1e-6)
    elif abs(m) > 1e-4:
        assert abs(error) > 1e-5


@given(st.integers(0, 2**31), st.integers(1, 400))
def test_a_deposit_keeps_the_mass_exactly_wherever_it_falls(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1, n)
    laid = deposit(values, rng.uniform(-3, 12, (n, 3)), (9, 8, 10))
    assert laid.sum() == pytest.approx(values.sum(), rel=1e-12)
    assert laid.min() >= 0


def test_a_deposit_lies_where_it_was_put() -> None:
    laid = deposit(np.array([2.0]), np.array([[1.25, 2.0, 3.0]]), (4, 5, 6))
    assert laid[1, 2, 3] == pytest.approx(1.5)
    assert laid[2, 2, 3] == pytest.approx(0.5)


def test_subregions_recover_a_smooth_map_and_keep_its_sum() -> None:
    index = np.indices((40, 40, 40)).astype(float)
    truth = 1.3 + 0.2 * np.sin(index[0] / 14) * np.cos(index[2] / 11)
    mask = ((index - 19.5) ** 2).sum(axis=0) < 18**2
    noisy = np.random.default_rng(0).poisson(2 * truth) / 2
    found = fit(noisy, 2 * noisy, mask, SPACING, 0.05, total=float(truth[mask].sum()))
    assert found.values[mask].sum(dtype=np.float64) == pytest.approx(truth[mask].sum(), rel=1e-5)
    assert np.corrcoef(found.values[mask], truth[mask])[0, 1] > 0.97
    assert not found.values[~mask].any()
    assert 2 < found.sigma_mm < 8


def test_a_smaller_tolerance_averages_more() -> None:
    mask = np.ones((40, 40, 40), bool)
    ones = np.ones(mask.shape)
    sizes = [fit(ones, ones, mask, SPACING, tau).sigma_mm for tau in (0.02, 0.0385, 0.1)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_too_little_lung_for_a_subregion_is_named() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[9:11, 9:11, 9:11] = True
    with pytest.raises(Rejected, match=r"tau = 0\.05"):
        fit(np.ones(mask.shape), np.ones(mask.shape), mask, SPACING, 0.05)


def test_a_method_that_counts_says_that_it_needs_the_field_back() -> None:
    pair = replace(block(BLOCKS[0]), deposits=None)
    with pytest.raises(Rejected, match="from inspiration to expiration"):
        ventilation_map(pair, Parameters(ventilation="ijf"))
    with pytest.raises(Rejected, match="from inspiration to expiration"):
        mass_map(pair, Parameters(perfusion="deposit"))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"sigma_mm": 0.0}, "sigma_mm"),
        ({"tau_q": -1.0}, "tau_q"),
        ({"rim_mm": -1.0}, "rim_mm"),
        ({"normalisation": "reference"}, "reference_v"),
    ],
)
def test_parameters_out_of_range_are_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(Rejected, match=words):
        Parameters(**wrong)
