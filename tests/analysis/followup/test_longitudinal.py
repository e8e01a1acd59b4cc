"""Two dates of one patient: planted changes are found where they are, and nothing where nothing changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.anatomy.regions import REGIONS
from analysis.errors import Rejected
from analysis.followup.figures import page
from analysis.followup.longitudinal import CHANGED, Change, compare
from analysis.measures.table import MEASURES
from analysis.pipeline.pipeline import Analysis, Parameters
from analysis.registration.registration import RegistrationQuality
from analysis.truth.phantom import ThoraxShape, Truth, thorax_phantom
from analysis.volume import Grid
from analysis.vq.classes import VQClass

SHIFT = np.array([5.0, -4.0, 8.0])
SHAPE = ThoraxShape(in_plane_mm=3.0, slice_mm=3)
BY = Parameters(normalisation="reference", reference_v=0.5, reference_q=0.03)


def result_of(truth: Truth, shift: np.ndarray | None = None, volume: float = 2500.0) -> Analysis:
    """A result that says the truth; `shift` moves the patient on the table, mm LPS."""
    affine = truth.expiratory.grid.affine.copy()
    if shift is not None:
        affine[:3, 3] += shift
    grid = Grid(truth.expiratory.grid.shape, affine)
    inside = truth.classes > 0
    maps = {
        "V": np.where(inside, truth.jacobian - 1, np.nan),
        "Q": np.where(inside, np.abs(truth.mass_change), np.nan),
        "ct_exp": truth.expiratory.array,
    }
    measures = {r: {m: float(n) for n, m in enumerate(MEASURES)} | {"volume_exp": volume} for r in REGIONS}
    return Analysis(
        BY, "0.1.0", grid, truth.classes, truth.lungs, grid,
        {name: values.astype(np.float32) for name, values in maps.items()},
        np.zeros((*grid.shape, 3), np.float32), measures, {}, (), RegistrationQuality(0, 0, 0, 1, 0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def truths() -> tuple[Truth, Truth]:
    return thorax_phantom((), shape=SHAPE), thorax_phantom(shape=SHAPE)


@pytest.fixture(scope="module")
def change(truths: tuple[Truth, Truth]) -> Change:
    rng = np.random.default_rng(5)
    before = result_of(truths[0], SHIFT)
    before.maps["ct_exp"][:] += rng.normal(0, 10, before.grid.shape).astype(np.float32)
    return compare(before, result_of(truths[1], volume=2000.0))


def test_a_patient_who_lies_elsewhere_is_found_again(change: Change, truths: tuple[Truth, Truth]) -> None:
    off = np.linalg.norm(change.displacement[truths[1].lungs > 0] - SHIFT, axis=1)
    assert off.mean() < 0.5


def test_new_defects_appear_as_transitions_from_normal_with_their_volumes(
    change: Change, truths: tuple[Truth, Truth]
) -> None:
    ml = change.grid.voxel_ml
    true = np.array([(truths[1].classes == c).sum() * ml for c in VQClass if c])
    moved = change.transitions
    assert moved[1:].sum() == 0  # nothing was a defect before
    assert np.abs(moved[0] - true).max() < 0.03 * true.sum()
    assert (moved[0, 1:] > 0.9 * true[1:]).all()


def test_v_and_q_fall_where_the_defects_came_and_nowhere_else(
    change: Change, truths: tuple[Truth, Truth]
) -> None:
    both = (change.later > 0) & (truths[0].classes == truths[1].classes)
    for name in CHANGED:
        assert np.array_equal(np.isfinite(change.maps[name]), change.later > 0)
    new = truths[1].jacobian - truths[0].jacobian
    lost = (change.later == VQClass.SHUNT) & (new < -0.3)
    assert np.median(np.abs(change.maps["V"] - new)[lost]) < 0.02
    assert np.abs(np.median(change.maps["V"][both])) < 0.005
    assert np.median(change.maps["Q_n"][change.later == VQClass.DEAD_SPACE]) < -0.4


def test_normalised_v_and_q_change_by_what_their_classes_were_made_of(change: Change) -> None:
    known = change.later > 0
    assert np.allclose(change.maps["V_n"][known], change.maps["V"][known] / BY.reference_v, atol=1e-5)
    assert np.allclose(change.maps["Q_n"][known], change.maps["Q"][known] / BY.reference_q, atol=1e-4)


def test_measures_stand_side_by_side_and_a_different_breath_is_a_warning(change: Change) -> None:
    assert change.measures["lungs"]["volume_exp"] == (2500.0, 2000.0)
    assert set(change.measures) == set(REGIONS)
    verdicts = {finding.check: finding.verdict for finding in change.findings}
    assert verdicts["volume, expiration"] == "warn"
    assert verdicts["volume, inspiration"] == "pass"


def test_the_page_shows_changes_in_place(change: Change) -> None:
    figure = page(change, "two dates")
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())
    assert picture.shape == (1500, 1600, 4)
    blue = (picture[..., 2].astype(int) - picture[..., 0] > 80).sum()
    assert blue > 2000


def test_results_that_cannot_be_compared_are_refused(truths: tuple[Truth, Truth]) -> None:
    ours = result_of(truths[0])
    with pytest.raises(Rejected, match=r"other parameters: low 0\.6 and 0\.7"):
        compare(ours, replace(ours, parameters=replace(BY, low=0.7)))
    alone = replace(ours, lungs=np.where(ours.lungs == 2, 0, ours.lungs).astype(np.uint8))
    with pytest.raises(Rejected, match="the left lung was found only in the earlier result"):
        compare(ours, alone)
