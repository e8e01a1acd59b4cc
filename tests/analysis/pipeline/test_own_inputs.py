"""Lungs and a displacement field that a user brings take the place of ours, and are checked as ours are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import Analysis, DisplacementField, Parameters, Rejected, Volume, analyse
from analysis.anatomy.regions import LOBES
from analysis.lobes.fissures import Fissure
from analysis.lobes.lobes import FoundLobes
from analysis.lobes.planes import Plane
from analysis.pipeline import lobes as own
from analysis.pipeline.given_field import invert
from analysis.pipeline.masks import with_own_lungs
from analysis.truth.phantom import ThoraxShape, Truth, thorax_phantom
from analysis.volume import Grid, Labels

SHAPE = ThoraxShape(in_plane_mm=4.0, slice_mm=4)
COARSE = Parameters(grid_mm=4.0, accept_failed_checks=True)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return thorax_phantom(shape=SHAPE)


@pytest.fixture(scope="module")
def known(truth: Truth) -> Analysis:
    """With the phantom's own lungs on expiration and its own field: nothing is searched for."""
    drawn = Volume.from_affine(truth.lungs, truth.expiratory.grid.affine)
    field = DisplacementField(truth.displacement, truth.expiratory.grid)
    return analyse(truth.inspiratory, truth.expiratory, COARSE, lungs=(None, drawn), displacement=field)


def test_with_the_true_field_the_jacobian_is_the_true_one(truth: Truth, known: Analysis) -> None:
    grid = known.grid
    index = np.rint(truth.expiratory.grid.indices(grid.centres().reshape(-1, 3).astype(np.float64))).astype(
        int
    )
    true = truth.jacobian[tuple(index.T)].reshape(grid.shape)
    inside = np.isfinite(known.maps["V"])
    error = known.maps["jacobian"][inside] - true[inside]
    assert abs(float(np.median(error))) < 0.02
    assert float(np.median(np.abs(error))) < 0.05


def test_a_given_field_is_judged_like_our_own(known: Analysis) -> None:
    assert known.registration.inverse_consistency < 0.5
    assert known.registration.folding == 0
    assert {f.check for f in known.findings} >= {"registration closure", "feature residual"}


def test_our_own_lungs_given_back_change_nothing(truth: Truth, known: Analysis) -> None:
    assert float((known.lungs > 0).sum()) == pytest.approx(float((truth.lungs > 0).sum()), rel=0.01)


def test_lobes_of_our_own_are_measured_in_both_phases_as_those_of_a_mask_are(
    truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(ct: Volume, lungs: Labels, grid: Grid) -> FoundLobes:
        third = (3 * np.arange(grid.shape[0]) // grid.shape[0])[:, None, None]
        labels = np.where(lungs == 1, 3 - third, np.where(lungs == 2, 5 - third // 2, 0)).astype(np.uint8)
        plane, flat = Plane(np.zeros(3), np.eye(3), 1.0), np.zeros((2, 2), np.float32)
        one = Fissure(plane, np.zeros(2), flat, 0.8, 0.0, 100.0, np.zeros((0, 3)))
        return FoundLobes(labels, dict.fromkeys(("right oblique", "right horizontal", "left oblique"), one))

    monkeypatch.setattr(own, "find", found)
    field = DisplacementField(truth.displacement, truth.expiratory.grid)
    parameters = replace(COARSE, lobes="own")
    result = analyse(truth.inspiratory, truth.expiratory, parameters, displacement=field)
    assert [f.verdict for f in result.findings if f.check == "lobes"] == ["pass"]
    for phase in ("volume_insp", "volume_exp"):
        total = sum(result.measures[lobe][phase] for lobe in LOBES)
        assert total == pytest.approx(result.measures["lungs"][phase], rel=0.02)


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1), (7, 3), (1, 1)])
def test_right_is_told_from_left_by_place_whatever_the_numbers(
    truth: Truth, numbers: tuple[int, int]
) -> None:
    drawn = np.where(truth.lungs == 1, numbers[0], np.where(truth.lungs == 2, numbers[1], 0))
    found = with_own_lungs(truth.expiratory, Volume.from_affine(drawn, truth.expiratory.grid.affine))
    assert np.array_equal(found.labels, truth.lungs)
    assert not (found.airways & (found.labels > 0)).any()


def test_masks_that_are_no_lungs_of_this_ct_are_refused(truth: Truth) -> None:
    drawn = np.where(truth.lungs > 0, np.arange(truth.lungs.size).reshape(truth.lungs.shape) % 5, 0)
    with pytest.raises(Rejected, match="has 4 labels on the CT, expected one for both lungs or one for each"):
        with_own_lungs(truth.expiratory, Volume.from_affine(drawn, truth.expiratory.grid.affine))
    away = truth.expiratory.grid.affine.copy()
    away[0, 3] += 1000.0
    with pytest.raises(Rejected, match="has 0 labels on the CT"):
        with_own_lungs(truth.expiratory, Volume.from_affine(truth.lungs, away))
    away[0, 3] -= 925.0
    with pytest.raises(Rejected, match=r"lies on tissue of -?\d+ HU \(median\), expected below -300 HU"):
        with_own_lungs(truth.expiratory, Volume.from_affine(truth.lungs, away))


def test_a_field_the_other_way_round_is_refused(truth: Truth) -> None:
    wrong = DisplacementField(truth.displacement * np.float32(1000), truth.expiratory.grid)
    with pytest.raises(
        Rejected, match=r"leads \d+% of the expiratory lung .* in mm, in LPS, and from expiration"
    ):
        analyse(truth.inspiratory, truth.expiratory, COARSE, displacement=wrong)


def test_a_field_and_its_inverse_cancel() -> None:
    grid = Grid.axial((12, 14, 16), (5.0, 5.0, 5.0))
    x = grid.centres()
    u = 4 * np.sin(x / 15).astype(np.float32)
    w = invert(DisplacementField(u, grid), grid)
    inner = (slice(3, -3),) * 3
    again = x + w + 4 * np.sin((x + w) / 15)
    assert float(np.abs(again - x)[inner].max()) < 0.3  # trilinear between voxels 5 mm apart


def test_a_result_is_saved_and_loaded_whole(known: Analysis, tmp_path: Path) -> None:
    known.save(tmp_path / "result.npz")
    again = Analysis.load(tmp_path / "result.npz")
    assert again.parameters == known.parameters
    assert again.findings == known.findings
    assert np.array_equal(again.displacement, known.displacement)
    assert np.array_equal(again.maps["Q"], known.maps["Q"], equal_nan=True)
    assert str(again.rows()) == str(known.rows())  # as text, because NaN differs from itself
    with pytest.raises(Rejected, match="is not there"):
        Analysis.load(tmp_path / "other.npz")


def test_a_result_shows_itself_in_a_line(known: Analysis) -> None:
    assert repr(known).startswith("Analysis(dead space ")
    assert len(repr(known)) < 600
    assert "array(" not in repr(known) + repr(
        Volume.from_array(np.arange(8).reshape(2, 2, 2), (1.0, 1.0, 1.0))
    )
