"""In a block of lung a fissure is found where it is; where there is none, none is seen."""

import numpy as np
import pytest

from analysis.lobes.fissures import fit
from analysis.lobes.lobes import BORDERS
from analysis.lobes.planes import OBLIQUE, planes
from analysis.lobes.tissue import Tissue

SPACING = (1.25, 1.25, 1.25)
SHAPE = (80, 72, 48)  # 100 x 90 x 60 mm
Z, Y, X = (1.25 * (np.indices(SHAPE, dtype=np.float32)[n] - (SHAPE[n] - 1) / 2) for n in range(3))
LUNG = np.ones(SHAPE, np.bool_)
LUNG[:2] = LUNG[-2:] = LUNG[:, :2] = LUNG[:, -2:] = LUNG[:, :, :2] = LUNG[:, :, -2:] = False
#: Height above a bent oblique surface, mm.
ABOVE = Z * np.cos(np.radians(50)) - Y * np.sin(np.radians(50)) + 4 * np.sin(X / 15)


def block(there: np.ndarray, noise: float = 20.0) -> Tissue:
    """A block of lung with a sheet along `ABOVE` = 0 where ``there``."""
    rng = np.random.default_rng(3)
    hu = -850 + rng.normal(0, noise, SHAPE) + 250 * there * np.exp(-0.5 * (ABOVE / 0.8) ** 2)
    return Tissue.of(np.where(LUNG, hu, 40).astype(np.float32), LUNG, SPACING)


def error(tissue: Tissue) -> tuple[float, float]:
    """Mean distance (mm) of the surface to the truth, and the share of it that is seen."""
    fissure = fit(tissue, LUNG, planes(tissue, LUNG, OBLIQUE, 1)[0])
    index = np.argwhere(LUNG & (np.abs(ABOVE) < 1))
    return float(
        np.abs(fissure.above(index * np.array(SPACING)) - ABOVE[tuple(index.T)]).mean()
    ), fissure.seen


def test_a_bent_fissure_is_found_to_a_millimetre() -> None:
    distance, seen = error(block(LUNG))
    assert distance < 1.0
    assert seen > 0.8


def test_an_incomplete_fissure_is_bridged_and_its_share_is_told() -> None:
    distance, seen = error(block(np.abs(X) > 14))
    assert distance < 2.0
    assert 0.3 < seen < 0.7


def test_where_there_is_no_fissure_none_is_seen() -> None:
    assert error(block(~LUNG))[1] < 0.1


def test_an_empty_part_has_no_planes() -> None:
    assert planes(block(LUNG), np.zeros_like(LUNG), OBLIQUE, 4) == []


@pytest.mark.parametrize(("lobe", "fissures"), [(3, 1), (2, 2), (4, 1)])
def test_every_lobe_knows_its_fissures(lobe: int, fissures: int) -> None:
    assert len(BORDERS[lobe]) == fissures
