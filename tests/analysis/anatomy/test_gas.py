"""Gas that is not lung, and bullae that are, put into a made thorax and into real CT."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from analysis.anatomy.body import caged
from analysis.anatomy.gas import Gas, under_skin
from analysis.anatomy.lungs import segment
from analysis.anatomy.outline import Outline, loose_ml, pit_ml
from analysis.anatomy.sides import Lung
from analysis.measures.quality import outline_findings
from analysis.volume import Grid, Labels, Mask, Volume

MM = 2.0
SPACING = (MM, MM, MM)


@dataclass(frozen=True)
class Thorax:
    """HU before the scanner's blur on (z up, y back, x left), 2 mm, and its lungs."""

    hu: np.ndarray
    lungs: Labels

    @property
    def xyz(self) -> list[np.ndarray]:
        z, y, x = np.indices(self.hu.shape, dtype=np.float32) * MM
        return [x - 150, y - 110, z]

    def scan(self, what: Mask | None = None, hu: float = -1000) -> Volume:
        """With `what` painted in, blurred and noisy."""
        painted = self.hu if what is None else np.where(what, hu, self.hu)
        blurred = ndimage.gaussian_filter(painted, 0.5)
        blurred += np.random.default_rng(3).normal(0, 15, blurred.shape)
        return Volume(blurred.astype(np.int16), Grid.axial(blurred.shape, SPACING))

    def beyond(self, mm: float) -> Mask:
        """Farther than `mm` from the lungs."""
        return np.asarray(ndimage.distance_transform_edt(self.lungs == 0, sampling=SPACING) > mm)


@pytest.fixture(scope="module")
def thorax() -> Thorax:
    """Body, spine, ribs, two lungs over domes, the heart, trachea with main bronchi."""
    shape = (130, 110, 150)
    z, y, x = np.indices(shape, dtype=np.float32) * MM
    x, y = x - 150, y - 110
    hu = np.full(shape, -1000.0)
    hu[(x / 146) ** 2 + (y / 100) ** 2 < 1] = 40
    shell = (x / 125) ** 2 + (y / 84) ** 2
    hu[(shell > 1) & (shell < 1.12) & (np.mod(z + 0.4 * y, 24) < 10)] = 500
    hu[(x / 18) ** 2 + ((y - 62) / 16) ** 2 < 1] = 400
    lungs = np.zeros(shape, dtype=np.uint8)
    heart = ((x - 14) / 48) ** 2 + ((y + 30) / 42) ** 2 + ((z - 110) / 54) ** 2 < 1
    for label, centre in ((Lung.RIGHT, -68), (Lung.LEFT, 68)):
        r2 = ((x - centre) / 50) ** 2 + (y / 62) ** 2
        top = np.sqrt(np.clip(1 - (np.clip(z - 160, 0, None) / 80) ** 2, 0, 1))
        lungs[(r2 < top**2) & (z > 40 + 60 * (1 - r2)) & (z < 238) & ~heart] = label
    hu[lungs > 0] = -850
    trachea = ((x / 9) ** 2 + ((y - 8) / 9) ** 2 < 1) & (z > 160)
    for side in (-1, 1):
        tube = (y - 8) ** 2 + (z - 160 + 0.6 * side * x) ** 2 < 49
        trachea |= tube & (side * x > -4) & (side * x < 30)
    hu[trachea] = -1000
    lungs[trachea] = 0
    return Thorax(hu, lungs)


def ball(thorax: Thorax, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Mask:
    return np.asarray(
        sum(((a - c) / r) ** 2 for a, c, r in zip(thorax.xyz, centre, radii, strict=True)) < 1, dtype=np.bool_
    )


def share(found: Labels, what: Mask) -> float:
    return float((found[what] > 0).mean())


def wrong(found: Labels, lungs: Labels) -> float:
    """Voxels that are lung in one and not in the other, as a share of the lungs."""
    return float(((found > 0) != (lungs > 0)).sum()) / float((lungs > 0).sum())


@pytest.mark.parametrize("wall", [2.0, 4.0])
@pytest.mark.parametrize(("centre", "radii"), [((68, 0, 72), (38, 32, 26)), ((-70, 6, 80), (40, 30, 18))])
def test_gas_under_a_thin_diaphragm_is_not_lung(
    thorax: Thorax, wall: float, centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> None:
    stomach = ball(thorax, centre, radii) & thorax.beyond(wall)
    found = segment(thorax.scan(stomach)).labels
    assert share(found, stomach) < 0.02
    assert wrong(found, thorax.lungs) < 0.03


def test_a_hiatal_hernia_and_a_wide_oesophagus_are_not_lung(thorax: Thorax) -> None:
    x, y, z = thorax.xyz
    for gas in (
        ball(thorax, (12, 28, 76), (26, 16, 22)) & thorax.beyond(2.5),
        ((x - 6) ** 2 + (y - 32) ** 2 < 100) & (z > 60) & (z < 150) & thorax.beyond(1.0),
    ):
        found = segment(thorax.scan(gas)).labels
        assert share(found, gas) < 0.02
        assert wrong(found, thorax.lungs) < 0.03


@pytest.mark.parametrize(
    ("centre", "radius"),
    [((118, 0, 140), 22), ((-70, 0, 236), 26), ((70, 0, 106), 22), ((-68, -60, 140), 24)],
)
def test_a_bulla_at_the_border_is_lung(
    thorax: Thorax, centre: tuple[float, float, float], radius: float
) -> None:
    bulla = ball(thorax, centre, (radius,) * 3) & (thorax.lungs > 0)
    found = segment(thorax.scan(bulla, -990)).labels
    assert share(found, bulla) > 0.97
    assert wrong(found, thorax.lungs) < 0.03


def test_a_pneumothorax_is_not_lung(thorax: Thorax) -> None:
    right = thorax.lungs == Lung.RIGHT
    kept = right & np.roll(right, (14, 8), (1, 2))
    gas = right & ~kept
    pleura = kept & ndimage.binary_dilation(gas)
    collapsed = Thorax(np.where(pleura, -600, thorax.hu), thorax.lungs)
    found = segment(collapsed.scan(gas)).labels
    assert share(found, gas) < 0.2
    assert share(found, kept) > 0.93


def test_air_under_the_skin_is_not_lung_where_a_tube_has_passed(thorax: Thorax) -> None:
    x, y, z = thorax.xyz
    outer = (x / 140) ** 2 + (y / 94) ** 2
    skin = (outer < 1) & ((x / 130) ** 2 + (y / 86) ** 2 > 1.04) & (x > 60) & (z > 80) & (z < 200)
    track = (y**2 + (z - 140) ** 2 < 6) & (x > 110) & (x < 136)
    found = segment(thorax.scan(skin | track)).labels
    assert share(found, skin & (x > 132)) < 0.02
    assert wrong(found, thorax.lungs) < 0.04


def test_an_effusion_is_not_lung_and_a_small_consolidation_is(thorax: Thorax) -> None:
    _, y, _ = thorax.xyz
    effusion = (thorax.lungs == Lung.LEFT) & (y > 40)
    assert share(segment(thorax.scan(effusion, 10)).labels, effusion) < 0.1
    consolidation = ball(thorax, (-112, 0, 140), (12, 12, 12)) & (thorax.lungs > 0)
    assert share(segment(thorax.scan(consolidation, 30)).labels, consolidation) > 0.6


def test_an_apex_behind_a_scar_is_lung(thorax: Thorax) -> None:
    _, _, z = thorax.xyz
    scar = (thorax.lungs == Lung.RIGHT) & (z > 196) & (z < 206)
    apex = (thorax.lungs == Lung.RIGHT) & (z > 208)
    assert share(segment(thorax.scan(scar, 40)).labels, apex) > 0.95


def test_the_rib_cage_holds_the_lungs_and_not_the_skin(thorax: Thorax) -> None:
    x, y, _ = thorax.xyz
    cage = caged(np.asarray(thorax.scan().array, dtype=np.float32), SPACING)
    assert cage[thorax.lungs > 0].mean() > 0.99
    assert not cage[((x / 138) ** 2 + (y / 94) ** 2 > 1)].any()


def test_where_no_ribs_are_seen_nothing_lies_outside_them(thorax: Thorax) -> None:
    hu = np.where(thorax.hu > 200, 40, thorax.hu).astype(np.float32)
    assert not under_skin(thorax.lungs > 0, hu, SPACING).any()


def test_gas_is_judged_by_its_walls_and_its_place() -> None:
    stomach = Gas(290, 4, 0.60, 0.00, True, 0.0, 55, 0.76)
    giant_bulla = Gas(290, -20, 0.61, 0.36, False, 0.92, 42, 0.88)
    emphysema = Gas(30, 54, 0.35, 0.10, True, 0.1, 50, 0.75)
    crescent = Gas(600, -10, 0.64, 0.28, False, 0.39, 72, 0.43)
    assert [(g.bowel, g.pleural) for g in (stomach, giant_bulla, emphysema, crescent)] == [
        (True, False),
        (False, False),
        (False, False),
        (False, True),
    ]


def test_a_wrong_outline_is_found(thorax: Thorax) -> None:
    stomach = ball(thorax, (68, 0, 72), (38, 32, 26)) & thorax.beyond(2)
    volume = thorax.scan(stomach)
    right = Outline.of(thorax.lungs, volume)
    taken = Outline.of(np.where(stomach, Lung.LEFT, thorax.lungs).astype(np.uint8), volume)
    assert right.gas_ml == 0
    assert right.loose_ml < 1
    assert taken.gas_ml > 0.5 * stomach.sum() * volume.grid.voxel_ml
    assert taken.pit_ml > right.pit_ml
    assert taken.loose_ml == pytest.approx(stomach.sum() * volume.grid.voxel_ml, rel=0.01)
    assert {f.verdict for f in outline_findings("expiration", right)} == {"pass"}
    assert [f.verdict for f in outline_findings("expiration", taken)][:2] == ["warn", "warn"]


def test_the_outline_does_not_depend_on_how_a_volume_is_stored(thorax: Thorax) -> None:
    volume = thorax.scan()
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.points(np.array([[129.0, 109.0, 0.0]]))[0]
    affine[:3, :2] *= -1
    turned = Volume(
        np.ascontiguousarray(np.asarray(volume.array)[::-1, ::-1]), Grid(volume.grid.shape, affine)
    )
    a = Outline.of(thorax.lungs, volume)
    b = Outline.of(np.ascontiguousarray(thorax.lungs[::-1, ::-1]), turned)
    assert (a.gas_ml, a.loose_ml, a.pit_ml) == pytest.approx((b.gas_ml, b.loose_ml, b.pit_ml))


def test_a_pit_is_measured_and_a_slope_is_none() -> None:
    z, y, _ = np.indices((40, 50, 50))
    slope = z > 10 + y // 5
    assert pit_ml(slope, SPACING) == 0
    hole = slope.copy()
    hole[2:, 20:30, 20:30] = True
    assert pit_ml(hole, SPACING) == pytest.approx((12.5 - 0.5) * 100 * 0.008, rel=0.15)
    labels = slope.astype(np.uint8)
    labels[0, :5, :5] = 1
    assert loose_ml(labels, SPACING) == pytest.approx(25 * 0.008)


# --- real data --------------------------------------------------------------------------------------------------


def read(archive: Path, folder: Path) -> Volume:
    with zipfile.ZipFile(archive) as files:
        files.extractall(folder)
    series = max({p.parent for p in folder.rglob("*") if p.is_file()}, key=lambda p: len(list(p.iterdir())))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = (np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing())[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).astype(np.int16)
    return Volume(array, Grid(array.shape, affine)).coarsen(2.0)


def test_the_stomach_of_a_real_patient_is_not_lung(shared: Path, tmp_path: Path) -> None:
    volume = read(shared / "real-ct" / "midrc-1a-001012-ge.zip", tmp_path)
    labels = segment(volume).labels
    ml = [float((labels == lung).sum()) * volume.grid.voxel_ml for lung in (Lung.RIGHT, Lung.LEFT)]
    assert ml == pytest.approx([1345, 1506], rel=0.02)
    outline = Outline.of(labels, volume)
    assert outline.gas_ml == 0
    assert outline.loose_ml < 1


def test_the_apex_behind_a_scar_of_a_real_patient_is_lung(shared: Path, tmp_path: Path) -> None:
    volume = read(shared / "real-ct" / "lung1-001-siemens.zip", tmp_path)
    labels = segment(volume).labels
    ml = [float((labels == lung).sum()) * volume.grid.voxel_ml for lung in (Lung.RIGHT, Lung.LEFT)]
    assert ml == pytest.approx([2911, 2223], rel=0.01)  # 2845 without the apex
