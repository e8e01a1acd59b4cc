"""Lungs found in a small made thorax, in any orientation, and in real CT."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from analysis.anatomy.lungs import segment
from analysis.anatomy.morphology import closing, dilate, erode, fill_holes, fill_slice_holes, opening
from analysis.anatomy.pleura import fit_pleura
from analysis.anatomy.sides import Lung
from analysis.errors import Rejected
from analysis.volume import Grid, Labels, Mask, Volume

MM = 3.0


@dataclass(frozen=True)
class Thorax:
    """HU on (z up, y back, x left), 3 mm, and the lungs that were put in."""

    hu: np.ndarray
    lungs: Labels
    trachea: Mask

    @property
    def volume(self) -> Volume:
        return Volume(
            self.hu.astype(np.int16), Grid.axial(self.hu.shape, (MM, MM, MM), (-150.0, -120.0, -700.0))
        )

    @property
    def xyz(self) -> list[np.ndarray]:
        z, y, x = np.indices(self.hu.shape, dtype=np.float32) * MM
        return [x - 171, y - 120, z]

    def paint(self, where: Mask, hu: float) -> Thorax:
        return replace(self, hu=np.where(where, hu, self.hu))


@pytest.fixture(scope="module")
def thorax() -> Thorax:
    """Body, fat, spine, two lungs, trachea with main bronchi, heart's dent, table, noise."""
    shape = (92, 82, 115)
    z, y, x = np.indices(shape, dtype=np.float32) * MM
    x, y = x - 171, y - 120
    hu = np.full(shape, -1000.0)
    hu[(x / 160) ** 2 + (y / 100) ** 2 < 1] = -90
    hu[(x / 148) ** 2 + (y / 90) ** 2 < 1] = 45
    hu[(x / 18) ** 2 + ((y - 68) / 16) ** 2 < 1] = 300
    hu[(np.abs(y - 108) < 2) & (np.abs(x) < 165)] = -300
    heart = ((x - 14) / 52) ** 2 + ((y + 30) / 46) ** 2 + ((z - 90) / 60) ** 2 < 1
    lungs = np.zeros(shape, dtype=np.uint8)
    for label, centre in ((Lung.RIGHT, -76), (Lung.LEFT, 76)):
        dome = np.sqrt(np.clip(1 - (np.clip(z - 150, 0, None) / 90) ** 2, 0, 1))
        r2 = ((x - centre) / 56) ** 2 + (y / 74) ** 2
        lungs[(r2 < dome**2) & (z > 40 + 40 * (1 - r2)) & (z < 240) & ~heart] = label
    hu[lungs > 0] = -850
    trachea = ((x / 9) ** 2 + ((y - 8) / 9) ** 2 < 1) & (z > 150)
    for side in (-1, 1):
        tube = (y - 8) ** 2 + (z - 150 + 0.6 * side * x) ** 2 < 49
        trachea |= tube & (side * x > -4) & (side * x < 34)
    hu[trachea] = -1000
    lungs[trachea] = 0
    hu = ndimage.gaussian_filter(hu, 0.5) + np.random.default_rng(3).normal(0, 15, shape)
    return Thorax(hu, lungs, trachea)


def dice(a: Mask, b: Mask) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def agreement(found: Labels, truth: Labels) -> float:
    return min(dice(found == lung, truth == lung) for lung in (Lung.RIGHT, Lung.LEFT))


def reoriented(volume: Volume, order: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same patient, scanned along other axes; the affine says so."""
    affine = volume.grid.affine.copy()
    array = np.asarray(volume.array)
    for axis in [n for n in range(3) if flips[n]]:
        array = np.flip(array, axis)
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
    affine[:3, :3] = affine[:3, order]
    array = np.ascontiguousarray(np.transpose(array, order))
    return Volume(array.astype(np.int16), Grid((array.shape[0], array.shape[1], array.shape[2]), affine))


def test_both_lungs_are_found_on_their_sides(thorax: Thorax) -> None:
    found = segment(thorax.volume)
    assert found.labels.dtype == np.uint8
    assert agreement(found.labels, thorax.lungs) > 0.97


def test_trachea_and_main_bronchi_are_airways_not_lung(thorax: Thorax) -> None:
    found = segment(thorax.volume)
    assert thorax.trachea[found.airways].mean() > 0.85
    assert found.airways[ndimage.binary_erosion(thorax.trachea)].mean() > 0.85
    assert not (found.airways & (found.labels > 0)).any()
    assert np.median(thorax.hu[ndimage.binary_erosion(found.airways)]) == pytest.approx(-1000, abs=10)


RIGHT_HANDED = [
    (order, flips)
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3))
    if (np.linalg.det(np.eye(3)[list(order)]) > 0) == (sum(flips) % 2 == 0)
]


@pytest.mark.parametrize(("order", "flips"), RIGHT_HANDED[1::3])
def test_the_way_a_volume_is_stored_does_not_matter(
    thorax: Thorax, order: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    straight, turned = segment(thorax.volume), segment(reoriented(thorax.volume, order, flips))
    axes = tuple(int(n) for n in np.flatnonzero(flips))
    for a, b in ((straight.labels, turned.labels), (straight.airways, turned.airways)):
        np.testing.assert_array_equal(np.transpose(np.flip(a, axes), order), b)


def test_a_patient_turned_a_little_keeps_left_and_right(thorax: Thorax) -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    affine = thorax.volume.grid.affine.copy()
    affine[:3] = turn @ affine[:3]
    turned = segment(Volume(thorax.hu.astype(np.int16), Grid(thorax.volume.grid.shape, affine)))
    np.testing.assert_array_equal(turned.labels, segment(thorax.volume).labels)


def test_lungs_that_touch_are_told_apart(thorax: Thorax) -> None:
    x, y, z = thorax.xyz
    bridge = (np.abs(x) < 26) & (np.abs(y + 30) < 14) & (z > 165) & (z < 195)
    membrane = bridge & (np.abs(x) < MM / 2)
    joined = thorax.paint(bridge, -850).paint(membrane, -650)
    truth = np.where(bridge & ~membrane, np.where(x < 0, Lung.RIGHT, Lung.LEFT), thorax.lungs)
    found = segment(joined.volume).labels
    assert agreement(found, truth) > 0.965
    assert not ((found == Lung.LEFT) & (x < -2 * MM)).any()
    assert not ((found == Lung.RIGHT) & (x > 2 * MM)).any()


def test_bowel_gas_and_arms_and_the_table_are_not_lung(thorax: Thorax) -> None:
    x, y, z = thorax.xyz
    bowel = ((x - 60) / 40) ** 2 + ((y + 20) / 40) ** 2 + ((z - 14) / 16) ** 2 < 1
    foam = (np.abs(x) < 165) & (y > 110)
    busy = thorax.paint(bowel, -995).paint(foam, -900)
    found = segment(busy.volume).labels
    assert agreement(found, thorax.lungs) > 0.965
    assert not found[bowel | foam].any()


def test_dense_dependent_lung_on_expiration_is_lung(thorax: Thorax) -> None:
    _, y, _ = thorax.xyz
    density = np.interp(y, [-70, 30, 70], [-780, -600, -330])
    expired = thorax.paint(thorax.lungs > 0, 0)
    expired = replace(expired, hu=np.where(thorax.lungs > 0, density, thorax.hu))
    assert agreement(segment(expired.volume).labels, thorax.lungs) > 0.95


def test_emphysema_does_not_make_lung_airway(thorax: Thorax) -> None:
    emphysema = replace(thorax, hu=np.where(thorax.lungs > 0, thorax.hu - 105, thorax.hu))
    found = segment(emphysema.volume)
    assert agreement(found.labels, thorax.lungs) > 0.965
    assert not (found.airways & (ndimage.binary_erosion(thorax.lungs > 0))).any()


def test_a_mass_at_the_chest_wall_and_vessels_belong_to_the_lung(thorax: Thorax) -> None:
    x, y, z = thorax.xyz
    mass = ((x + 130) ** 2 + y**2 + (z - 130) ** 2 < 81) & (thorax.lungs == Lung.RIGHT)
    vessel = ((y - 30) ** 2 + (z - 120) ** 2 < 16) & (x > 50) & (x < 110) & (thorax.lungs == Lung.LEFT)
    found = segment(thorax.paint(mass | vessel, 40).volume).labels
    assert (found[mass] == Lung.RIGHT).mean() > 0.4
    assert (found[vessel] == Lung.LEFT).mean() > 0.95


@pytest.mark.parametrize("lost", [Lung.RIGHT, Lung.LEFT])
def test_after_pneumonectomy_one_lung_has_its_own_label(thorax: Thorax, lost: Lung) -> None:
    found = segment(thorax.paint(thorax.lungs == lost, 30).volume).labels
    kept = Lung.LEFT if lost == Lung.RIGHT else Lung.RIGHT
    assert not (found == lost).any()
    assert dice(found == kept, thorax.lungs == kept) > 0.97


@pytest.mark.parametrize("background", [-2048, -1024])
@pytest.mark.parametrize("lung", [Lung.RIGHT, Lung.LEFT])
def test_a_crop_masked_to_one_lung_is_named_by_its_shape(thorax: Thorax, lung: Lung, background: int) -> None:
    own = thorax.lungs == lung
    box = tuple(slice(a.start - 2, a.stop + 2) for a in ndimage.find_objects(own.astype(int))[0])
    crop = thorax.paint(~own, background).volume.crop((box[0], box[1], box[2]))
    found = segment(crop).labels
    assert set(np.unique(found)) == {Lung.NONE, lung}
    assert dice(found == lung, own[box]) > 0.97


def test_padding_outside_the_reconstruction_circle_changes_nothing(thorax: Thorax) -> None:
    x, y, _ = thorax.xyz
    padded = thorax.paint(x**2 + y**2 > 168**2, -3024)
    assert agreement(segment(padded.volume).labels, segment(thorax.volume).labels) > 0.999


def test_a_fine_grid_gives_the_same_lungs(thorax: Thorax) -> None:
    repeated = np.repeat(np.repeat(thorax.hu, 3, axis=1), 3, axis=2)
    fine = Volume(repeated.astype(np.int16), Grid.axial(repeated.shape, (MM, 1.0, 1.0)))
    found = segment(fine)
    assert found.labels.shape == found.airways.shape == repeated.shape
    assert agreement(found.labels[:, 1::3, 1::3], thorax.lungs[:, :82, :115]) > 0.93


def test_no_lungs_is_rejected_by_name(thorax: Thorax) -> None:
    with pytest.raises(Rejected, match="no lungs found"):
        segment(thorax.paint(thorax.lungs > 0, 40).volume)
    with pytest.raises(Rejected, match="no lungs found"):
        segment(thorax.volume.crop((slice(0, 12), slice(0, 82), slice(0, 115))))


def test_lungs_of_a_few_hundred_ml_are_rejected(thorax: Thorax) -> None:
    _, _, z = thorax.xyz
    with pytest.raises(Rejected, match="no lungs found: what looks like lung measures"):
        segment(thorax.paint((thorax.lungs > 0) & ((z < 100) | (z > 115)), 40).volume)


def test_only_air_is_rejected() -> None:
    air = np.random.default_rng(0).normal(-1000, 10, (40, 40, 40)).astype(np.int16)
    with pytest.raises(Rejected, match="no lungs found"):
        segment(Volume(air, Grid.axial(air.shape, (MM, MM, MM))))


def test_the_surface_lies_halfway_between_lung_and_tissue_whichever_side_it_was_drawn_on() -> None:
    x = np.arange(60) * 2.0
    inside = np.clip(0.5 + (40 - np.abs(x - 59)) / 6, 0, 1)  # 1 in the lung, 0 beyond the blurred wall
    share = inside[:, None, None] * inside[None, :, None] * inside[None, None, :]
    hu = (40 - 880 * share).astype(np.float32)
    halfway = share > 0.5
    barred = np.zeros(share.shape, dtype=np.bool_)
    for drawn in (ndimage.binary_erosion(halfway), ndimage.binary_dilation(halfway)):
        labels = drawn.astype(np.uint8)
        fit_pleura(labels, hu, barred, (2.0, 2.0, 2.0))
        assert ((labels > 0) != halfway).sum() < 0.002 * halfway.sum()


def test_a_vessel_that_reaches_the_surface_stays_lung() -> None:
    labels = np.zeros((40, 40, 40), dtype=np.uint8)
    labels[5:35, 5:35, 5:35] = 1
    hu = np.where(labels > 0, -840, 40).astype(np.float32)
    hu[18:21, 18:21, 5:20] = 40
    fit_pleura(labels, hu, np.zeros(labels.shape, dtype=np.bool_), (2.0, 2.0, 2.0))
    assert labels[18:21, 18:21, 5:20].all()


def test_morphology_works_in_mm_and_at_the_edge() -> None:
    spacing = (4.0, 2.0, 1.0)
    point = np.zeros((9, 17, 33), dtype=np.bool_)
    point[4, 8, 16] = True
    ball = dilate(point, 8.0, spacing)
    assert [int(ball.any(axis=a).sum(axis=b).max()) for a, b in ((0, 0), (0, 1), (1, 0))] == [9, 17, 5]
    assert (erode(ball, 4.0, spacing) & ~ball).sum() == 0
    assert not opening(point, 4.0, spacing).any()
    full = np.ones((6, 6, 6), dtype=np.bool_)
    assert closing(full, 4.0, (2.0, 2.0, 2.0)).all()
    assert not dilate(np.zeros((4, 4, 4), dtype=np.bool_), 4.0, spacing).any()


def test_holes_are_filled_in_three_dimensions_or_in_slices() -> None:
    shell = np.ones((9, 9, 9), dtype=np.bool_)
    shell[4, 4, 4] = False
    assert fill_holes(shell).all()
    tunnel = np.ones((9, 9, 9), dtype=np.bool_)
    tunnel[:, 4, 4] = False
    assert not fill_holes(tunnel).all()
    assert fill_slice_holes(tunnel, 4.0, (1.0, 1.0, 1.0)).all()


# --- real data --------------------------------------------------------------------------------------------------


def as_volume(image: sitk.Image) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = (np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing())[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).astype(np.int16)
    return Volume(array, Grid(array.shape, affine))


@pytest.mark.parametrize("name", ["3DCT_lung_baseline", "3DCT_lung_followup"])
def test_the_real_right_lung_agrees_with_its_mask(shared: Path, name: str) -> None:
    volume = as_volume(sitk.ReadImage(str(shared / "real-pair" / f"{name}.mha")))
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(shared / "real-pair" / f"{name}_mask.mha"))) > 0
    found = segment(volume.coarsen(2.0))
    assert not (found.labels == Lung.LEFT).any()
    assert dice(found.labels == Lung.RIGHT, mask) > 0.98


@pytest.mark.parametrize(
    ("name", "right_ml", "left_ml"),
    [("popi-00-philips", 2958, 2397), ("normal001-siemens-jpegll", 1836, 1584)],
)
def test_real_chests_give_both_lungs(
    shared: Path, tmp_path: Path, name: str, right_ml: float, left_ml: float
) -> None:
    with zipfile.ZipFile(shared / "real-ct" / f"{name}.zip") as archive:
        archive.extractall(tmp_path)
    folder = max({p.parent for p in tmp_path.rglob("*") if p.is_file()}, key=lambda p: len(list(p.iterdir())))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    volume = as_volume(reader.Execute()).coarsen(2.0)
    found = segment(volume)
    volumes = [float((found.labels == lung).sum()) * volume.grid.voxel_ml for lung in (Lung.RIGHT, Lung.LEFT)]
    assert volumes == pytest.approx([right_ml, left_ml], rel=0.03)
    air = np.asarray(volume.array)[ndimage.binary_erosion(found.airways)]
    assert -1030 < np.median(air) < -930
