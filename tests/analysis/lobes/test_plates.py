"""A thin bright sheet answers, a tube and noise do not; the sheet's way of facing is told."""

import numpy as np
import pytest

from analysis.lobes.plates import plates

SPACING = (1.25, 1.25, 1.25)
SHAPE = (32, 32, 32)
ALL = np.ones(SHAPE, np.bool_)


def away(normal: tuple[float, float, float]) -> np.ndarray:
    """Distance (mm) of every voxel to the plane through the middle."""
    n = np.array(normal) / np.linalg.norm(normal)
    z, y, x = (a - 15.5 for a in np.indices(SHAPE, dtype=np.float32))
    return np.asarray(1.25 * (z * n[0] + y * n[1] + x * n[2]))


def sheet(normal: tuple[float, float, float]) -> np.ndarray:
    return (-850 + 300 * np.exp(-0.5 * (away(normal) / 0.8) ** 2)).astype(np.float32)


@pytest.mark.parametrize("normal", [(1, 0, 0), (0, 1, 0), (0.64, -0.77, 0), (0.5, -0.6, 0.62)])
def test_a_sheet_is_found_and_faces_along_its_normal(normal: tuple[float, float, float]) -> None:
    found = plates(sheet(normal), ALL, SPACING)
    on = np.abs(away(normal)) < 0.7
    on[:3] = on[-3:] = on[:, :3] = on[:, -3:] = on[:, :, :3] = on[:, :, -3:] = False
    assert found.strength[on].min() > 20
    cosine = np.abs(found.normal[on] / 127 @ (np.array(normal) / np.linalg.norm(normal)))
    assert cosine.min() > 0.97
    assert found.strength[np.abs(away(normal)) > 5].max() < 1e-2


def test_a_tube_is_no_sheet() -> None:
    z, y = away((1, 0, 0)), away((0, 1, 0))
    tube = (-850 + 300 * np.exp(-0.5 * (z**2 + y**2) / 0.8**2)).astype(np.float32)
    axis = np.hypot(z, y) < 1
    assert plates(tube, ALL, SPACING).strength[axis].max() == 0


def test_where_nothing_is_looked_for_nothing_is_found() -> None:
    assert not plates(sheet((1, 0, 0)), ~ALL, SPACING).strength.any()
