"""A band of V through both lungs is a step; a defect in one lung is none."""

import numpy as np
import pytest

from analysis.measures.bands import Band, band, v_band
from analysis.volume import Float, Labels


@pytest.fixture
def lungs() -> Labels:
    labels = np.zeros((80, 40, 60), dtype=np.uint8)
    labels[5:75, 5:35, 5:25] = 1
    labels[5:75, 5:35, 35:55] = 2
    return labels


def ventilation(lungs: Labels) -> Float:
    """V that falls evenly to the apex, with noise; NaN outside."""
    v = np.broadcast_to(np.linspace(0.6, 0.3, 80, dtype=np.float32)[:, None, None], lungs.shape)
    v = v + np.float32(0.05) * np.random.default_rng(0).standard_normal(lungs.shape, dtype=np.float32)
    return np.where(lungs > 0, v, np.nan).astype(np.float32)


def test_a_band_through_both_lungs_is_found_with_its_slice(lungs: Labels) -> None:
    v = ventilation(lungs)
    v[40:45] *= 0.4
    found = v_band(v, lungs, 2.0)
    assert found.change == pytest.approx(-0.6 * 0.45 / 0.45, abs=0.1)
    assert 40 <= found.slice_index < 45
    assert band(found, "z = 3.0 mm").verdict == "warn"


def test_a_band_that_moves_the_fractions_fails_where_there_are_two_lungs(lungs: Labels) -> None:
    """In a single lung a defect may fill a slice."""
    v = ventilation(lungs)
    v[40:45] *= 0.05
    assert band(v_band(v, lungs, 2.0), "z = 3.0 mm").verdict == "fail"
    one = np.where(lungs == 1, lungs, 0)
    alone = band(v_band(v, one, 2.0), "z = 3.0 mm")
    assert alone.verdict == "warn"
    assert "the lung leaves" in alone.sentence


def test_a_defect_of_one_lung_is_no_band(lungs: Labels) -> None:
    v = ventilation(lungs)
    v[40:50, :, :30] *= 0.1
    assert abs(v_band(v, lungs, 2.0).change) < 0.05


def test_a_slope_from_base_to_apex_is_no_band(lungs: Labels) -> None:
    finding = band(v_band(ventilation(lungs), lungs, 2.0), "z = 3.0 mm")
    assert finding.verdict == "pass"
    assert finding.value == pytest.approx(0, abs=0.05)


def test_lungs_without_a_known_v_have_no_band(lungs: Labels) -> None:
    assert v_band(np.full(lungs.shape, np.nan, dtype=np.float32), lungs, 2.0) == Band()
