"""Made faults are what they say they are."""

import numpy as np
import pytest

from analysis.truth import faults
from analysis.volume import Grid, Volume


@pytest.fixture
def ramp() -> Volume:
    """Every slice holds its own number, every column too."""
    grid = Grid.axial((40, 32, 32), (2.0, 2.0, 2.0), (0.0, 0.0, -50.0))
    k, _, i = np.indices(grid.shape)
    return Volume((10 * k + i).astype(np.int16), grid)


def test_a_missing_block_leaves_its_slices_out_and_the_rest_as_it_was(ramp: Volume) -> None:
    found = faults.breathing_step(ramp, 20, 10.0, np.random.default_rng(0))
    assert (found.array[:20] == ramp.array[:20]).all()
    assert (found.array[20:] == ramp.array[25:]).all()
    assert found.grid.spacing == ramp.grid.spacing


def test_a_block_scanned_twice_comes_again_with_noise_of_its_own(ramp: Volume) -> None:
    found = faults.breathing_step(ramp, 20, -10.0, np.random.default_rng(0))
    assert (found.array[:20] == ramp.array[:20]).all()
    assert (found.array[25:] == ramp.array[20:]).all()
    difference = found.array[20:25].astype(float) - ramp.array[15:20]
    assert difference.std() == pytest.approx(10, rel=0.1)


def test_a_lateral_step_moves_the_slices_from_there_on(ramp: Volume) -> None:
    found = faults.lateral_step(ramp, 20, 6.0)
    assert (found.array[:20] == ramp.array[:20]).all()
    assert (found.array[20:, :, 3:] == ramp.array[20:, :, :-3]).all()


def test_a_base_cut_keeps_the_place_of_what_is_left(ramp: Volume) -> None:
    labels = np.zeros(ramp.grid.shape, dtype=np.uint8)
    labels[10:30, 8:24, 8:24] = 1
    cut = faults.base_cut(ramp, labels, 8.0)
    assert (cut.array == ramp.array[14:]).all()
    assert cut.grid.points(np.zeros((1, 3)))[0, 2] == -50 + 14 * 2


def test_added_noise_has_its_standard_deviation(ramp: Volume) -> None:
    found = faults.noise(ramp, 50.0, np.random.default_rng(0))
    assert (found.array.astype(float) - ramp.array).std() == pytest.approx(50, rel=0.05)


def test_an_effusion_takes_its_volume_from_behind(ramp: Volume) -> None:
    labels = np.zeros(ramp.grid.shape, dtype=np.uint8)
    labels[5:35, 4:28, 4:28] = 1
    lung = Volume(np.where(labels > 0, -800, 40).astype(np.int16), ramp.grid)
    wet = faults.effusion(lung, labels, 30.0, np.random.default_rng(0))
    filled = (labels > 0) & (wet.array > -300)
    assert filled.sum() * ramp.grid.voxel_ml == pytest.approx(30.0, abs=30 * 24 * 0.008)
    assert not filled[:, :20].any()


def test_a_side_cut_leaves_the_outermost_columns_out(ramp: Volume) -> None:
    labels = np.zeros(ramp.grid.shape, dtype=np.uint8)
    labels[10:30, 8:24, 8:24] = 1
    assert (faults.side_cut(ramp, labels, 8.0).array == ramp.array[:, :, 12:]).all()
