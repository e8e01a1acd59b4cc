"""The surface of least cost follows what is cheap, and a thin plate bridges what is not known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.lobes.surface import least_cost, smoothed

V, U = np.meshgrid(np.arange(30.0), np.arange(24.0), indexing="ij")


def costs(heights: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Cheap at the height where it is known, noise elsewhere."""
    rng = np.random.default_rng(1)
    cost = 0.2 * rng.random((*heights.shape, 30)).astype(np.float32)
    at = np.rint(heights).astype(int)
    np.put_along_axis(cost, at[..., None], np.where(known, -1.0, 0.1)[..., None].astype(np.float32), axis=2)
    return cost


def test_a_bent_surface_is_followed_through_noise() -> None:
    truth = 15 + 5 * np.sin(V / 9) + 3 * np.cos(U / 8)
    found = least_cost(costs(truth, np.random.default_rng(2).random(truth.shape) < 0.7), 0.25)
    assert np.abs(found - truth).mean() < 0.8


def test_a_hole_in_a_surface_is_bridged() -> None:
    truth = 15 + 0.3 * V - 0.2 * U
    known = np.hypot(V - 15, U - 12) > 6
    heights = np.where(known, truth, 2.0).astype(np.float32)
    found = smoothed(heights, known.astype(np.float32), 10.0)
    assert np.abs(found - truth).max() < 0.2


@settings(max_examples=10, deadline=None)
@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-20, 20), st.floats(0.01, 100))
def test_a_plane_is_no_strain_to_a_thin_plate(a: float, b: float, c: float, stiffness: float) -> None:
    plane = (a * V[:12, :10] + b * U[:12, :10] + c).astype(np.float32)
    assert smoothed(plane, np.ones_like(plane), stiffness) == pytest.approx(plane, abs=1e-3)
