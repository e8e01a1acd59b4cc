"""Twins: a field is recovered, mass is kept, the truth agrees with itself; real motion in a real chest."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from analysis.errors import Rejected
from analysis.truth.breathing import Array, PhaseName
from analysis.truth.defects import Defect, choose_defects, with_ventilation
from analysis.truth.fields import Field, Points, basis, grid_points, lattice, sample
from analysis.truth.motion import Motion, Pairs, fit_motion, rest_offset, split_lungs
from analysis.truth.scanner import Look
from analysis.truth.twins import make_twin, transport
from analysis.volume import Grid, Labels, Volume
from analysis.vq.classes import VQClass
from dicom_node.research.validate import read_pairs

STILL = Look(slice_mm=4.0, pixel_ratio=1.0, blur_mm=0.0, noise_hu=0.0, blood=0.0)
SPACING = (4.0, 4.0, 4.0)
Chest = tuple[Volume, Labels]


def smooth_field(size: float = 3.0, seed: int = 0) -> Field:
    values = np.random.default_rng(seed).standard_normal((9, 10, 11, 3)).astype(np.float32)
    values = ndimage.gaussian_filter(values, (1.5, 1.5, 1.5, 0))
    return Field.through(values * np.float32(size / values.std()), (-50.0, -40.0, 10.0), 12.0)


def breathe(points: Points, stretch: float = 1.35) -> Array:
    """Both lungs grow downwards from z = 200 and a little to the front."""
    out = np.array(points, dtype=float)
    out[:, 2] = 200 + (out[:, 2] - 200) * stretch
    out[:, 1] = 120 + (out[:, 1] - 120) * 1.08
    return out


def lungs_at(points: Points) -> Labels:
    """1 right, 2 left: two ellipsoids."""
    p = np.asarray(points, dtype=float)
    inside = [(((p - (x, 80, 130)) / (36, 50, 66)) ** 2).sum(axis=-1) < 1 for x in (60, 150)]
    out: Labels = (inside[0] + 2 * inside[1]).astype(np.uint8)
    return out


def unbreathe(points: Points) -> Array:
    out = np.array(points, dtype=float)
    out[:, 2] = 200 + (out[:, 2] - 200) / 1.35
    out[:, 1] = 120 + (out[:, 1] - 120) / 1.08
    return out


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    rng = np.random.default_rng(1)
    grid = np.indices((53, 42, 60)).reshape(3, -1).T * 4.0 + (0, 0, -20)
    exp = lungs_at(grid).reshape(53, 42, 60)
    insp = lungs_at(unbreathe(grid)).reshape(53, 42, 60)
    inside = grid[exp.ravel() > 0]
    x = inside[rng.choice(len(inside), 900, replace=False)]
    shift = np.array([0, 0, 20.0])
    points = x + shift, breathe(x) + shift
    keypoints, landmarks = [p[:700] for p in points], [p[700:] for p in points]
    return Pairs.of(tuple(keypoints), tuple(landmarks), (exp > 0, insp > 0), SPACING, np.zeros(3))


@pytest.fixture(scope="module")
def motion(pairs: Pairs) -> Motion:
    return fit_motion(pairs)


@pytest.fixture(scope="module")
def chest() -> Chest:
    """A volume (k, j, i) of 4 mm with two lungs, and their labels."""
    grid = Grid.axial((60, 42, 53), SPACING)
    points = grid_points(grid, np.arange(np.prod(grid.shape)))
    labels = lungs_at(points - np.array([0, 0, 20], np.float32)).reshape(grid.shape)
    texture = ndimage.gaussian_filter(np.random.default_rng(2).standard_normal(grid.shape), 1.0)
    hu = np.where(labels > 0, -760 + 120 * texture, 40.0)
    return Volume(hu.astype(np.int16), grid), labels


def test_a_field_takes_its_values_at_its_nodes_and_is_what_its_basis_says() -> None:
    field = smooth_field()
    inner = field.nodes()[2:-2, 2:-2, 2:-2].reshape(-1, 3) + 3.7
    weights = basis(inner, field.coefficients.shape[:3], field.origin, field.step)
    assert np.allclose(weights @ field.coefficients.reshape(-1, 3), field.displacement(inner), atol=1e-4)


def test_the_jacobian_is_the_derivative_of_the_displacement() -> None:
    field = smooth_field()
    p = np.random.default_rng(0).uniform((-20, -10, 40), (40, 40, 70), (200, 3))
    h = 0.05
    columns = [(field.displacement(p + h * e) - field.displacement(p - h * e)) / (2 * h) for e in np.eye(3)]
    numeric = np.eye(3) + np.stack(columns, axis=-1)
    assert np.allclose(np.linalg.det(numeric), field.jacobian(p), atol=5e-3)
    assert np.allclose(numeric - np.eye(3), field.gradient(p), atol=2e-3)


def test_the_inverse_leads_back() -> None:
    field = smooth_field(4.0)
    p = lattice((6, 6, 6), (-20.0, -10.0, 40.0), 6.0).reshape(-1, 3)
    back, left = field.inverse(p + field.displacement(p))
    assert left.max() < 0.02
    assert np.abs(back - p).max() < 0.05


def test_sampling_at_voxel_centres_gives_the_voxels(chest: Chest) -> None:
    volume, _ = chest
    flat = np.arange(0, volume.array.size, 7)
    values = sample(volume.array, volume.grid, grid_points(volume.grid, flat))
    assert np.allclose(values, volume.array.ravel()[flat], atol=0.5)


def test_a_known_motion_is_recovered_from_points_and_masks(motion: Motion, pairs: Pairs) -> None:
    assert motion.landmark_error.mean() < 0.5
    assert motion.jacobian_range[0] > 1.2
    assert motion.volume_ratio == pytest.approx(1.35 * 1.08, rel=0.02)


def test_wild_pairs_do_not_bend_the_field(pairs: Pairs) -> None:
    rng = np.random.default_rng(3)
    wild = pairs.insp_keypoints.copy()
    wild[rng.choice(len(wild), 35, replace=False)] += rng.uniform(-30, 30, (35, 3))
    spoilt = Pairs(**{**vars(pairs), "insp_keypoints": wild})
    assert fit_motion(spoilt).landmark_error.mean() < 1.0


def test_too_few_pairs_are_rejected(pairs: Pairs) -> None:
    fewer = {key: getattr(pairs, key)[:60] for key in ("exp_keypoints", "insp_keypoints")}
    few = Pairs(**{**vars(pairs), **fewer})
    with pytest.raises(Rejected, match="point pairs"):
        fit_motion(few)


def test_lungs_that_touch_are_told_apart() -> None:
    grid = np.indices((53, 42, 60)).reshape(3, -1).T * 4.0 + (0, 0, -20)
    mask = (lungs_at(grid) > 0).reshape(53, 42, 60)
    mask[15:40, 18:22, 36:39] = True
    labels = split_lungs(mask, SPACING)
    truth = lungs_at(grid).reshape(53, 42, 60)
    assert np.array_equal(labels[truth > 0], truth[truth > 0])
    with pytest.raises(Rejected, match="right and a left"):
        split_lungs(truth == 1, SPACING)


def test_an_unknown_offset_leaves_back_and_top_in_place() -> None:
    cloud = np.random.default_rng(0).uniform(0, 100, (5000, 3))
    grown = cloud * (1, 1.2, 1.5)
    shift = np.array([7.0, 9.0, 11.0])
    assert np.allclose(rest_offset(cloud, grown + shift) + shift, (0, -20, -50), atol=0.5)


@pytest.mark.parametrize("phase", ["inspiration", "expiration"])
def test_transport_keeps_the_jacobian(motion: Motion, chest: Chest, phase: PhaseName) -> None:
    volume, labels = chest
    fields = transport(motion, labels, volume.grid, phase)
    points = grid_points(volume.grid, np.flatnonzero(labels == 1))
    if phase == "inspiration":
        points, left = fields[1].inverse(points)
        assert left.max() < 0.05
    assert np.median(fields[1].jacobian(points)) == pytest.approx(1.35 * 1.08, rel=0.02)


@pytest.mark.parametrize("phase", ["inspiration", "expiration"])
def test_lung_mass_is_kept(motion: Motion, chest: Chest, phase: PhaseName) -> None:
    volume, labels = chest
    twin = make_twin(volume, labels, phase, motion, (), STILL)
    truth, exp, insp = twin.truth, twin.expiratory, twin.inspiratory
    flat = np.flatnonzero(truth.lungs)
    points = grid_points(exp.grid, flat) + truth.displacement.reshape(-1, 3)[flat]
    there = 1 + sample(insp.array, insp.grid, points) / 1000
    here = 1 + exp.array.ravel()[flat] / 1000
    inner = ndimage.binary_erosion(truth.lungs > 0, iterations=2).ravel()[flat]
    kept = truth.jacobian.ravel()[flat] * there
    assert kept[inner].sum() == pytest.approx(here[inner].sum(), rel=0.01)
    assert np.abs(kept - here)[inner].mean() < 0.03 * here[inner].mean()


def test_a_made_lung_is_lung_up_to_its_surface(motion: Motion, chest: Chest) -> None:
    volume, labels = chest
    plain = Volume(np.where(labels > 0, -760, 40).astype(np.int16), volume.grid)
    twin = make_twin(plain, labels, "inspiration", motion, (), STILL)
    inside = twin.truth.lungs > 0
    rho = 1 + twin.expiratory.array[inside] / 1000
    off = np.abs(rho - 0.24 * twin.truth.jacobian[inside]) > 0.01
    assert off.mean() < 0.002


def test_the_truth_of_a_twin_agrees_with_itself(motion: Motion, chest: Chest) -> None:
    twin = make_twin(*chest, "expiration", motion, None, Look(slice_mm=4.0, noise_hu=5.0))
    truth, inner = twin.truth, ndimage.binary_erosion(twin.truth.lungs > 0, iterations=2)
    steps = [list(np.gradient(truth.displacement[..., c], 4.0)) for c in range(3)]
    matrix = np.stack([np.stack(s[::-1], axis=-1) for s in steps], axis=-2) + np.eye(3)
    inner &= ndimage.minimum_filter(truth.lungs, 3) == ndimage.maximum_filter(truth.lungs, 3)
    assert np.abs(np.linalg.det(matrix) - truth.jacobian)[inner].mean() < 0.03
    assert truth.jacobian[truth.lungs > 0].min() > 0
    moved = twin.exp_landmarks + sum(
        (twin.breathing.lung_at(twin.exp_landmarks) == n)[:, None] * f.displacement(twin.exp_landmarks)
        for n, f in twin.breathing.fields.items()
    )
    assert np.allclose(moved, twin.insp_landmarks, atol=1e-3)
    coarse = twin.truth_on(twin.expiratory.grid.coarsen((2, 2, 2)))
    assert coarse.jacobian[coarse.lungs > 0].mean() == pytest.approx(
        truth.jacobian[truth.lungs > 0].mean(), rel=0.02
    )


@pytest.mark.slow
def test_vessels_that_share_their_voxels_add_mass(motion: Motion, chest: Chest) -> None:
    """Vessels of -400 HU one voxel wide: summed over the cross-section m is their share of blood times J - 1."""
    volume, labels = chest
    tubes = (labels > 0) & (np.indices(volume.grid.shape)[1:] % 5 == 2).all(axis=0)
    hu = np.where(labels > 0, np.where(tubes, -400, -760), 40).astype(np.int16)
    look = replace(STILL, vessels="share")
    twin = make_twin(Volume(hu, volume.grid), labels, "expiration", motion, (), look)
    truth, deep = twin.truth, ndimage.binary_erosion(twin.truth.lungs > 0, iterations=3)
    moved = twin.expiratory.grid.centres()[deep] + truth.displacement[deep]
    insp = sample(twin.inspiratory.array, twin.inspiratory.grid, moved)
    m = truth.jacobian[deep] * (1 + insp / 1000) - (1 + hu[deep] / 1000)
    seen = float(m.mean() / ((truth.jacobian[deep] - 1) * tubes[deep]).mean())
    share = 1.05 * (-400 + 760 - 100) / (50 + 760 - 100)
    # a vessel one voxel wide is interpolated, and what falls below the margin of noise counts as none
    assert 0.75 * share < seen < 1.02 * share


def test_planted_defects_are_low_and_every_class_occurs(motion: Motion, chest: Chest) -> None:
    volume, labels = chest
    twin = make_twin(volume, labels, "expiration", motion, None, Look(slice_mm=4.0, variety=0.0))
    lungs, classes = twin.truth.lungs > 0, twin.truth.classes
    share = {c: float((classes[lungs] == c).mean()) for c in VQClass}
    assert 0.2 < 1 - share[VQClass.NORMAL] < 0.36
    assert min(share[c] for c in (VQClass.DEAD_SPACE, VQClass.SHUNT, VQClass.MATCHED_DEFECT)) > 0.04
    v = twin.truth.jacobian[lungs] - 1
    for d in twin.defects:
        points = grid_points(volume.grid, np.flatnonzero(lungs))
        core = (d.level(points) < d.radius_mm - 8) & (twin.truth.lungs[lungs] == d.lung)
        if "V" in d.kind and core.any():
            assert v[core].mean() < 0.45 * v.mean()


def test_ventilation_becomes_what_was_asked_for() -> None:
    still = Field(np.zeros((24, 24, 24, 3), np.float32), (0.0, 0.0, 0.0), 6.0)
    r = np.linalg.norm(still.nodes() - 69, axis=-1)
    inside = (r < 48).astype(np.float32)
    target = 1 + 0.25 * np.tanh((r - 24) / 6)
    target /= target[inside > 0].mean()
    field = with_ventilation(still, inside, target.astype(np.float32))
    jac = field.jacobian(still.nodes().reshape(-1, 3)).reshape(r.shape)
    assert np.abs(jac - target)[r < 36].mean() < 0.03


def test_defects_fill_the_share_asked_for() -> None:
    rng = np.random.default_rng(0)
    clouds = {1: rng.uniform(0, 100, (20000, 3)), 2: rng.uniform((150, 0, 0), (250, 100, 100), (20000, 3))}
    defects = choose_defects(clouds, 0.24)
    for d in defects:
        assert (d.level(clouds[d.lung]) < d.radius_mm).sum() == pytest.approx(0.04 * 40000, rel=0.05)
    assert Defect("V", 1, (0, 0, 0), 10.0).health(np.zeros((1, 3)))[0] == pytest.approx(0.15, abs=0.01)


def test_a_missing_lung_is_rejected(motion: Motion, chest: Chest) -> None:
    volume, labels = chest
    with pytest.raises(Rejected, match="lung 2"):
        make_twin(volume, np.where(labels == 1, 1, 0).astype(np.uint8), "expiration", motion)


def test_no_motion_gives_the_same_image(pairs: Pairs, chest: Chest) -> None:
    volume, labels = chest
    same = {
        "insp_keypoints": pairs.exp_keypoints, "insp_landmarks": pairs.exp_landmarks, "insp_lungs": pairs.exp_lungs,
    }  # fmt: skip
    still = fit_motion(Pairs(**{**vars(pairs), **same}))
    still = type(still)(**{**vars(still), "fields": {n: _zero(f) for n, f in still.fields.items()}})
    twin = make_twin(volume, labels, "expiration", still, (), STILL)
    assert not twin.truth.displacement.any()
    assert np.abs(twin.inspiratory.array.astype(int) - volume.array).max() <= 1


def test_real_motion_predicts_expert_landmarks(shared: Path) -> None:
    """The README of the data: interpolated keypoints predict the experts' landmarks within 1.6-2.7 mm."""
    motion = fit_motion(read_pairs(shared / "real-motion" / "copd03.npz"))
    assert motion.landmark_error.mean() < 1.8
    assert motion.jacobian_range[0] > 0.2
    assert motion.volume_ratio == pytest.approx(1.241, rel=0.03)


def _zero(field: Field) -> Field:
    return Field(np.zeros_like(field.coefficients), field.origin, field.step)
