"""The share of blood in a voxel, and what it keeps of its mass while the lung around it grows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.truth.vessels import BLOOD, between_vessels, made_by_share, vessel_share
from analysis.volume import Grid, Volume

DENSITIES = st.floats(0.05, 0.6)
SHARES = st.floats(0.0, 0.9)
GROWTH = st.floats(1.0, 2.2)
CHANGES = st.floats(0.0, 0.04)


def test_the_share_of_blood_is_none_in_lung_and_all_in_a_vessel_and_in_solid_tissue() -> None:
    hu = np.array([-800.0, -720.0, 1000 * BLOOD - 1000, 200.0], np.float32)
    lung = np.full(4, -800, np.float32)
    assert vessel_share(hu, lung).tolist() == [0, 0, 1, 1]
    assert vessel_share(hu, np.full(4, -50, np.float32)).tolist() == [1, 1, 1, 1]
    rising = vessel_share(np.linspace(-800, 100, 50, dtype=np.float32), np.full(50, -800, np.float32))
    assert (np.diff(rising) >= 0).all()
    # dense lung that holds air is no vessel
    assert vessel_share(np.full(3, -320, np.float32), np.full(3, -330, np.float32)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("lung_hu", [-880, -700, -400])
def test_the_density_between_vessels_is_not_that_of_the_vessels(lung_hu: int) -> None:
    rng = np.random.default_rng(0)
    grid = Grid.axial((40, 60, 60), (2.0, 1.0, 1.0))
    labels = np.zeros(grid.shape, np.uint8)
    labels[4:36, 8:52, 8:52] = 1
    hu = np.where(labels > 0, lung_hu + rng.normal(0, 20, grid.shape), 40)
    vessels = (labels > 0) & (np.indices(grid.shape)[2] % 10 < 2)  # a fifth of the lung
    volume = Volume(np.where(vessels, 40, hu).astype(np.int16), grid)
    found = between_vessels(volume, labels)
    at = grid.indices(found.grid.centres().reshape(-1, 3).astype(np.float64))
    inside = ((at > (4, 8, 8)) & (at < (35, 51, 51))).all(axis=1)
    assert np.abs(found.array.reshape(-1)[inside] - lung_hu).max() < 15


@given(DENSITIES, SHARES, GROWTH, CHANGES)
def test_a_share_of_blood_adds_that_share_of_the_growth_to_the_change_of_mass(
    lung: float, share: float, growth: float, change: float
) -> None:
    """J rho_i - rho_e = share rho_blood (J - 1) + m (1 - share): the image cannot tell it from perfusion."""
    exp = np.array([share * BLOOD + (1 - share) * lung], np.float32)
    one = [np.array([a], np.float32) for a in (share, growth, change)]
    insp = made_by_share(one[0], exp, one[1], one[2], "expiration")
    seen = growth * insp - exp
    assert seen == pytest.approx(share * BLOOD * (growth - 1) + change * (1 - share), abs=1e-5)
    back = made_by_share(one[0], insp, one[1], one[2], "inspiration")
    assert back == pytest.approx(exp, abs=1e-5)
