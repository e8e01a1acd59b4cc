"""A made field is recovered; no motion gives zero; bad input gets a sentence."""

import numpy as np
import pytest
from scipy import ndimage

from analysis.errors import Rejected
from analysis.measures.quality import registration_findings
from analysis.registration import kernels
from analysis.registration.refine import LungImage, agreement
from analysis.registration.registration import LEAST_J, jacobian, register, unfold
from analysis.truth.breathing import Array
from analysis.volume import Grid, Labels, Volume


def ball(
    shape: tuple[int, int, int] = (60, 70, 64),
    spacing: tuple[float, float, float] = (2.5, 2.0, 2.0),
    seed: int = 0,
) -> tuple[Volume, Labels, Array, Array]:
    """A textured ball of lung in soft tissue: Volume and labels."""
    rng = np.random.default_rng(seed)
    grid = Grid.axial(shape, spacing, (-60, -70, -75))
    x = grid.points(np.argwhere(np.ones(shape, bool)).astype(float)).reshape(*shape, 3)
    centre = x.reshape(-1, 3).mean(axis=0)
    lung = np.linalg.norm(x - centre, axis=-1) < 48
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), 1.2)
    hu = np.where(lung, -750 + 120 * texture / texture.std(), 40).astype(np.float32)
    return Volume(hu, grid), lung.astype(np.uint8), x, centre


def test_identical_images_give_no_displacement() -> None:
    volume, labels, _, _ = ball()
    result = register(volume, labels, volume, labels)
    assert np.abs(result.displacement).max() < 1e-3
    assert np.abs(result.jacobian - 1).max() < 1e-3


def test_a_known_smooth_field_is_recovered_whatever_the_density_does() -> None:
    fixed, labels, x, centre = ball()
    u = (x - centre) * np.array([0.06, 0.03, 0.10]) + 4 * np.sin((x - centre) / 22)[..., [1, 2, 0]]
    at = fixed.grid.indices((x + inverse(u, x, fixed.grid)).reshape(-1, 3)).T
    moved = ndimage.map_coordinates(fixed.array, at, order=1, cval=40).reshape(fixed.array.shape)
    inside = ndimage.map_coordinates(labels.astype(np.float32), at, order=1).reshape(labels.shape) > 0.5
    thinner = np.where(inside, moved - 60, moved).astype(np.float32)
    result = register(fixed, labels, Volume(thinner, fixed.grid), inside.astype(np.uint8))
    core = ndimage.binary_erosion(labels, iterations=2)
    error = np.linalg.norm(result.displacement - u, axis=-1)[core]
    assert error.mean() < 0.5
    assert np.percentile(error, 95) < 1.2
    assert abs(result.quality.closure) < 0.03
    along = jacobian(np.ascontiguousarray(result.displacement[..., ::-1]), fixed.grid.spacing)
    assert np.abs(result.jacobian - along)[core].max() < 1e-4
    assert result.quality.folding == 0
    assert result.quality.inverse_consistency < 0.3
    assert result.quality.similarity > 0.8
    assert result.quality.feature_residual < 0.3
    there = x + result.displacement
    back = [
        ndimage.map_coordinates(result.inverse[..., c], fixed.grid.indices(there.reshape(-1, 3)).T, order=1)
        for c in range(3)
    ]
    missed = np.linalg.norm(there + np.stack(back, axis=-1).reshape(x.shape) - x, axis=-1)[core]
    assert missed.mean() < 0.3


def inverse(u: Array, x: Array, grid: Grid) -> Array:
    """-u at the point it leads back to, by fixed-point iteration."""
    v = -u
    for _ in range(20):
        at = grid.indices((x + v).reshape(-1, 3)).T
        parts = [ndimage.map_coordinates(u[..., c], at, order=1, mode="nearest") for c in range(3)]
        v = -np.stack(parts, axis=-1).reshape(u.shape)
    return v


def test_the_direction_of_slices_does_not_matter() -> None:
    fixed, labels, _, _ = ball()
    shift = np.array([3.0, -2.0, 5.0])
    affine = fixed.grid.affine.copy()
    affine[:3, 3] += shift
    moving = Volume(fixed.array, Grid(fixed.grid.shape, affine))
    turned = Grid(fixed.grid.shape, turn(moving.grid))
    result = register(
        fixed, labels, Volume(moving.array[::-1, ::-1].copy(), turned), labels[::-1, ::-1].copy()
    )
    assert np.abs(result.displacement[labels > 0] - shift).max() < 0.3


def turn(grid: Grid) -> Array:
    """Affine of array[::-1, ::-1]."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.points(np.array([[grid.shape[0] - 1, grid.shape[1] - 1, 0]]))[0]
    affine[:3, :2] *= -1
    return affine


def test_a_lung_missing_in_one_phase_is_named() -> None:
    volume, labels, _, _ = ball()
    with pytest.raises(Rejected, match="right lung was found only in expiration"):
        register(volume, labels, volume, labels * 2)
    with pytest.raises(Rejected, match="no lung"):
        register(volume, labels * 0, volume, labels * 0)


def test_the_jacobian_of_a_scaling_is_its_volume_change() -> None:
    k, j, i = np.meshgrid(np.arange(8.0), np.arange(9.0), np.arange(10.0), indexing="ij")
    u = np.stack([0.1 * k * 2.5, 0.2 * j * 2.0, -0.1 * i * 1.5], axis=-1).astype(np.float32)
    np.testing.assert_allclose(jacobian(u, (2.5, 2.0, 1.5)), 1.1 * 1.2 * 0.9, rtol=1e-5)


@pytest.mark.parametrize("shape", [(24, 19, 22), (1, 5, 5), (9, 2, 1), (3, 4, 30)])
@pytest.mark.parametrize("radius", [1, 3])
def test_an_image_is_standardised_by_the_mean_and_the_deviation_of_the_cube_around_each_voxel(
    shape: tuple[int, int, int], radius: int
) -> None:
    rng = np.random.default_rng(0)
    image = (80 * rng.standard_normal(shape)).astype(np.float32)
    weight = np.where(rng.random(shape) < 0.2, 0, rng.random(shape)).astype(np.float32)
    cube = np.ones((2 * radius + 1,) * 3)
    w, s, ss = (
        ndimage.convolve(weight.astype(np.float64) * image**n, cube, mode="constant") for n in range(3)
    )
    enough = (weight > 0) & (w > 1)
    mean = s / np.maximum(w, 1)
    expected = np.where(enough, (image - mean) / np.sqrt(ss / np.maximum(w, 1) - mean**2 + 625), 0)
    np.testing.assert_allclose(kernels.standardise(image, weight, radius, 625.0), expected, atol=1e-5)


def test_the_feature_residual_measures_a_misplacement() -> None:
    volume, labels, _, _ = ball(spacing=(2.0, 2.0, 2.0), shape=(70, 70, 70))
    image = LungImage.of(volume.array.astype(np.float32), labels > 0)
    still = np.zeros((*labels.shape, 3), np.float32)
    none = np.zeros(3, np.float32)
    assert agreement(image, image, none, still, 3) == pytest.approx((1.0, 0.0), abs=1e-5)
    similarity, residual = agreement(image, image, none, still + np.array([0.3, 0, 0.4], np.float32), 3)
    assert similarity < 1
    assert residual == pytest.approx(0.5, rel=0.2)


def test_two_lungs_that_have_nothing_in_common_fail_a_check() -> None:
    fixed, labels, _, _ = ball(seed=0)
    other = ball(seed=1)[0]
    found = registration_findings(register(fixed, labels, other, labels).quality)
    failed = {f.check: f.sentence for f in found if f.verdict == "fail"}
    assert "another patient" in failed["registration similarity"]


def test_lungs_without_texture_fail_a_check() -> None:
    volume, labels, _, _ = ball()
    flat = Volume(np.where(labels > 0, -750, 40).astype(np.float32), volume.grid)
    verdicts = {
        f.check: f.verdict for f in registration_findings(register(flat, labels, flat, labels).quality)
    }
    assert verdicts["registration similarity"] == "fail"
    assert verdicts["feature residual"] == "fail"


def test_a_fold_is_smoothed_away_and_the_rest_stays() -> None:
    x = np.stack(np.meshgrid(*[np.arange(40.0)] * 3, indexing="ij"), axis=-1)
    near = np.exp(-((x - 20) ** 2).sum(axis=-1) / 18)
    u = (-1.6 * (x - 20) * near[..., None]).astype(np.float32)
    inside = np.ones(u.shape[:3], bool)
    assert jacobian(u, (1.0, 1.0, 1.0)).min() < 0
    mended, jac = unfold(u, inside, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(jac, jacobian(mended, (1.0, 1.0, 1.0)))
    assert jac.min() >= LEAST_J
    np.testing.assert_array_equal(mended[:5], u[:5])


def test_volumes_that_do_not_overlap_are_laid_together() -> None:
    volume, labels, _, _ = ball()
    affine = volume.grid.affine.copy()
    affine[:3, 3] += [0, 0, 400]
    result = register(volume, labels, Volume(volume.array, Grid(volume.grid.shape, affine)), labels)
    assert np.abs(result.displacement[labels > 0] - [0, 0, 400]).max() < 0.1


def test_labels_of_another_grid_are_refused() -> None:
    volume, labels, _, _ = ball()
    with pytest.raises(Rejected, match="inspiration has"):
        register(volume, labels, volume, labels[1:])
