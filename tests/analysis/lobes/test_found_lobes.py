"""In a thorax with five lobes the fissures are found where they are, and doubted where they are missing."""

from collections.abc import Mapping

import numpy as np
import pytest

from analysis.lobes.lobes import FoundLobes, find
from analysis.truth.fissures import FissureShape, FissureTruth, distances, fissure_phantom, on_grid


def found_in(truth: FissureTruth) -> tuple[FoundLobes, Mapping[str, tuple[float, float]]]:
    """The lobes, and the mean distance (mm) of each boundary to the truth where there is a sheet and where not."""
    ct, lungs, grid = on_grid(truth, 2.0)
    found = find(ct, lungs, grid)
    return found, distances(truth, found.labels, grid)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [FissureShape(complete=0.8), FissureShape(0.8, 9.0, 12.0, 10.0, 2)])
def test_fissures_are_found_within_three_millimetres(shape: FissureShape) -> None:
    found, apart = found_in(fissure_phantom(shape))
    assert {name: d for name, (d, _) in apart.items() if d > 3.0} == {}
    assert all(f.seen > 0.25 for f in found.fissures.values())
    assert np.unique(found.labels).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
def test_fissures_that_are_not_there_are_not_seen() -> None:
    found, _ = found_in(fissure_phantom(FissureShape(complete=0.0)))
    assert max(f.seen for f in found.fissures.values()) < 0.25
