"""Lobes are told by where they lie, whatever their numbers, and are carried to the other phase."""

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.anatomy.outline import Outline
from analysis.anatomy.regions import LOBES
from analysis.errors import Rejected
from analysis.lobes.fissures import Fissure
from analysis.lobes.lobes import FoundLobes
from analysis.lobes.planes import Plane
from analysis.measures.effusion import Behind
from analysis.measures.metal import Metal
from analysis.measures.scan import Scan
from analysis.measures.steps import Step
from analysis.measures.table import Densities
from analysis.pipeline import lobes as own
from analysis.pipeline.lobes import Lobes, find_lobes, name_lobes, own_lobes
from analysis.pipeline.phase import Phase
from analysis.pipeline.pipeline import _measure, _regions
from analysis.volume import Float, Grid, Labels, Volume

GRID = Grid.axial((30, 20, 40), (3.0, 3.0, 3.0))
NUMBERS = {"lungmask": (3, 4, 5, 1, 2), "TotalSegmentator": (12, 13, 14, 10, 11), "other": (50, 7, 3, 2, 900)}


def lungs(height: slice = slice(3, 27)) -> Labels:
    out = np.zeros(GRID.shape, np.uint8)
    out[height, 3:17, 3:18] = 1
    out[height, 3:17, 22:37] = 2
    return out


def lobes(
    numbers: tuple[int, ...] = (1, 2, 3, 4, 5), shape: tuple[int, int, int] = GRID.shape
) -> NDArray[np.int16]:
    """Right: upper above, middle below it in front, lower below it behind; left: upper above and in front."""
    out = np.zeros(shape, np.int16)
    out[17:27, 3:17, 3:18] = numbers[0]
    out[3:17, 3:8, 3:18] = numbers[1]
    out[3:17, 8:17, 3:18] = numbers[2]
    out[:, 3:17, 22:37] = numbers[4]
    out[12:27, 3:12, 22:37] = numbers[3]
    out[:3, :, 22:37] = out[27:, :, 22:37] = 0
    return out


def phase(labels: Labels, hu: int = -800) -> Phase:
    """A phase whose lungs are ``labels``, every voxel of it its own."""
    array = np.where(labels > 0, hu, 40).astype(np.int16)
    volume = Volume(array, GRID)
    densities = Densities.of(volume, labels)
    box = (slice(0, GRID.shape[0]), slice(0, GRID.shape[1]), slice(0, GRID.shape[2]))
    work = Volume(array.astype(np.float32), GRID)
    scan = Scan(-1000.0, 40.0, 20.0, 0.0, 0.0, (0.0, 0.0), Step(), Metal(), Behind(), Outline(0, 0, 0))
    return Phase(GRID, work, labels, box, (1, 1, 1), densities, scan, volume)


INSP, EXP = phase(lungs()), phase(lungs(slice(9, 27)), -700)
NOTHING = np.zeros((*GRID.shape, 3), np.float32)


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
def test_lobes_are_told_by_where_they_lie(numbers: tuple[int, ...]) -> None:
    found = name_lobes(lobes(numbers).astype(np.uint16), lungs(), GRID)
    np.testing.assert_array_equal(found, lobes())


def test_the_phase_a_mask_was_drawn_on_is_the_one_it_covers() -> None:
    found = find_lobes(Volume(lobes(), GRID), INSP, EXP)
    assert found.phase == "inspiration"
    cut = lobes()
    cut[:9] = 0
    assert find_lobes(Volume(cut, GRID), INSP, EXP).phase == "expiration"


def test_a_mask_on_a_finer_grid_is_found_all_the_same() -> None:
    fine = Grid.axial((60, 40, 80), (1.5, 1.5, 1.5), (-0.75, -0.75, -0.75))
    mask = np.repeat(np.repeat(np.repeat(lobes(NUMBERS["lungmask"]), 2, 0), 2, 1), 2, 2)
    np.testing.assert_array_equal(find_lobes(Volume(mask, fine), INSP, EXP).labels, lobes())


def test_lobes_go_where_the_field_carries_them() -> None:
    labels = find_lobes(Volume(lobes(), GRID), INSP, EXP).labels
    down = NOTHING.copy()
    down[..., 2] = -6.0
    insp, exp = Lobes("inspiration", labels).carried(INSP, EXP, down, -down)
    np.testing.assert_array_equal(insp, labels)
    np.testing.assert_array_equal(exp[9:27, 3:17, 3:18], labels[7:25, 3:17, 3:18])
    assert not exp[EXP.lungs == 0].any()


def test_a_lobe_is_measured_in_the_voxels_of_both_phases() -> None:
    drawn = Lobes("inspiration", find_lobes(Volume(lobes(), GRID), INSP, EXP).labels)
    both = drawn.carried(INSP, EXP, NOTHING, NOTHING)
    regions = _regions(EXP, both[1])
    assert set(LOBES) < set(regions)
    mask, flat = EXP.lungs > 0, np.full(GRID.shape, 0.5, np.float32)
    maps: dict[str, Float] = {name: flat for name in ("V", "Q", "m")} | {
        "ct_insp": INSP.work.array.astype(np.float32), "ct_exp": EXP.work.array.astype(np.float32),
    }  # fmt: skip
    table = _measure(INSP, EXP, maps, mask.astype(np.uint8), mask, regions, both)
    upper = table["right_upper_lobe"]
    assert upper["volume_insp"] == pytest.approx((lobes() == 1).sum() * GRID.voxel_ml)
    assert upper["mld_exp"] == -700
    assert upper["mld_insp"] == -800
    assert sum(table[name]["volume_exp"] for name in LOBES) == pytest.approx(table["lungs"]["volume_exp"])


def test_a_mask_that_fits_no_lungs_is_named() -> None:
    mask = lobes()
    mask[10:] = 0
    with pytest.raises(Rejected, match="fits the lungs of neither phase"):
        find_lobes(Volume(mask, GRID), INSP, EXP)


def test_a_mask_without_five_lobes_is_named() -> None:
    mask = lobes().astype(np.uint16)
    mask[..., :20] = 0
    with pytest.raises(Rejected, match="holds 0 lobes right and 2 left"):
        name_lobes(mask, lungs(), GRID)


def found(right_oblique: float, right_horizontal: float, left_oblique: float) -> FoundLobes:
    """The lobes above, as if these shares of their fissures were seen."""
    plane = Plane(np.zeros(3), np.eye(3), 1.0)
    shares = {
        "right oblique": right_oblique, "right horizontal": right_horizontal, "left oblique": left_oblique,
    }  # fmt: skip
    flat = np.zeros((2, 2), np.float32)
    fissures = {
        name: Fissure(plane, np.zeros(2), flat, seen, 0.0, 100.0, np.zeros((0, 3)))
        for name, seen in shares.items()
    }
    return FoundLobes(lobes().astype(np.uint8), fissures)


@pytest.mark.parametrize(
    ("seen", "left_out"),
    [
        ((0.8, 0.7, 0.6), set()),
        ((0.8, 0.1, 0.6), {1, 2}),
        ((0.1, 0.7, 0.6), {1, 2, 3}),
        ((0.8, 0.7, 0.1), {4, 5}),
    ],
)
def test_lobes_beside_a_fissure_that_is_not_seen_are_left_out_and_named(
    seen: tuple[float, float, float], left_out: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "find", lambda ct, lungs, grid: found(*seen))
    drawn, finding = own_lobes(INSP)
    assert {1, 2, 3, 4, 5} - set(np.unique(drawn.labels).tolist()) == left_out
    assert finding.verdict == ("warn" if left_out else "pass")
    for label, name in enumerate(LOBES, 1):
        assert (name.replace("_", " ") in finding.sentence) == (label in left_out)
    regions = _regions(EXP, drawn.labels)
    assert {name for name in LOBES if name in regions} == {
        name for label, name in enumerate(LOBES, 1) if label not in left_out
    }


def test_lungs_without_any_fissure_have_no_lobes() -> None:
    drawn, finding = own_lobes(INSP)
    assert not drawn.labels.any()
    assert finding.verdict == "warn"
