"""A fault of one scan is found in its images and named with its place; a scan without it passes."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from analysis.measures.density import OFFSET_HU, density_offset
from analysis.measures.effusion import Behind, behind_lungs, effusion
from analysis.measures.extent import end_slices_cm2, lung_at_the_sides, lung_on_end_slice, sides_cm2
from analysis.measures.metal import Metal, find_metal, metal
from analysis.measures.noise import noise, noise_hu
from analysis.measures.steps import Step, largest_step, step
from analysis.truth import faults
from analysis.volume import Grid, Labels, Volume

GRID = Grid.axial((60, 128, 128), (2.0, 3.0, 3.0), (-190.0, -190.0, -300.0))


@pytest.fixture(scope="module")
def anatomy() -> Volume:
    """Structures of about 10 mm under a scanner's noise of 15 HU."""
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.standard_normal(GRID.shape), (5, 3.3, 3.3))
    hu = -300 + 250 * texture / texture.std() + 15 * rng.standard_normal(GRID.shape)
    return Volume(np.rint(hu).astype(np.int16), GRID)


@pytest.fixture(scope="module")
def thorax() -> tuple[Volume, Labels]:
    """Two lungs in a round body with a ring of bone around them, and their labels."""
    rng = np.random.default_rng(1)
    j, i = (np.indices(GRID.shape[1:]) - 63.5) * 3.0
    body = np.hypot(j, i) < 170
    bone = (np.hypot(j, i) > 132) & (np.hypot(j, i) < 140)
    right, left = ((np.hypot(j / 100, (i - x) / 55) < 1) for x in (-65, 65))
    flat = np.where(body, 40.0, -1000.0)
    flat[bone] = 400
    flat[right | left] = -800
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[8:-8] = right + 2 * left
    hu = np.where(labels > 0, -800.0, np.where(flat == -800, 40.0, flat))
    hu = hu + 15 * rng.standard_normal(GRID.shape)
    return Volume(np.clip(np.rint(hu), -1024, 3071).astype(np.int16), GRID), labels


def test_slices_that_follow_each_other_show_no_step(anatomy: Volume) -> None:
    found = step("inspiration", largest_step(anatomy))
    assert found.verdict == "pass"
    assert "no step" in found.sentence


@pytest.mark.parametrize("slope", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("end", [30, 50])
def test_the_end_of_the_lungs_and_even_tissue_below_are_no_step(end: int, slope: float) -> None:
    """A slice of lung differs from the next by more than slices do below, and there by noise alone."""
    rng = np.random.default_rng(3)
    grid = Grid.axial((100, 128, 128), (2.0, 3.0, 3.0))
    texture = ndimage.gaussian_filter(rng.standard_normal(grid.shape), (5, 3.3, 3.3))
    k, j, _ = np.indices(grid.shape)
    hu = np.where(k < end + slope * (j - 64), 40, -300 + 250 * texture / texture.std())
    noisy = hu + 15 * rng.standard_normal(grid.shape)
    lungs = Volume(np.rint(noisy).astype(np.int16), grid)
    assert step("expiration", largest_step(lungs)).verdict == "pass"
    stepped = largest_step(faults.breathing_step(lungs, 80, 10.0, rng))
    assert step("expiration", stepped).verdict == "fail"
    assert stepped.slices == (79, 80)


@settings(max_examples=12, deadline=None)
@given(after=st.integers(15, 45))
def test_a_missing_block_is_found_and_named_with_its_slices_wherever_it_is(
    anatomy: Volume, after: int
) -> None:
    scan = faults.breathing_step(anatomy, after, 10.0, np.random.default_rng(0))
    finding = step("expiration", largest_step(scan))
    assert finding.verdict == "fail"
    assert (
        f"between slices {after} and {after + 1} of 55 (z = {-300 + 2 * after - 1:.1f} mm)"
        in finding.sentence
    )
    assert "on expiration" in finding.sentence


@settings(max_examples=12, deadline=None)
@given(after=st.integers(20, 45), slices=st.integers(1, 5))
def test_a_block_scanned_twice_is_found_and_measured(anatomy: Volume, after: int, slices: int) -> None:
    scan = faults.breathing_step(anatomy, after, -2.0 * slices, np.random.default_rng(0))
    found = largest_step(scan)
    assert found.repeat_mm == 2.0 * slices
    assert found.slices == (after - 1, after)
    assert "scanned twice" in step("expiration", found).sentence


@settings(max_examples=12, deadline=None)
@given(after=st.integers(15, 45), pixels=st.integers(1, 3))
def test_a_step_to_the_side_is_measured_in_mm(anatomy: Volume, after: int, pixels: int) -> None:
    found = largest_step(faults.lateral_step(anatomy, after, 3.0 * pixels))
    assert found.slices == (after - 1, after)
    assert found.sideways_mm == pytest.approx(3.0 * pixels, abs=0.7)
    assert found.along_mm < 1.5
    assert "sideways by" in step("expiration", found).sentence


def test_a_step_is_found_in_mm_also_of_thin_slices() -> None:
    rng = np.random.default_rng(2)
    grid = Grid.axial((200, 128, 128), (0.6, 3.0, 3.0))
    texture = ndimage.gaussian_filter(rng.standard_normal(grid.shape), (16, 3.3, 3.3))
    hu = -300 + 250 * texture / texture.std() + 15 * rng.standard_normal(grid.shape)
    scan = Volume(np.rint(hu).astype(np.int16), grid)
    assert step("x", largest_step(scan)).verdict == "pass"
    found = largest_step(faults.breathing_step(scan, 100, 10.0, rng))
    assert step("x", found).verdict == "fail"
    assert abs(found.slices[0] - 99) <= 3


def test_a_scan_of_a_few_slices_is_not_judged_for_steps(anatomy: Volume) -> None:
    short = anatomy.crop((slice(0, 8), slice(0, 128), slice(0, 128)))
    assert largest_step(short).jump_mm == 0


def test_lung_on_an_end_slice_fails_by_its_area(thorax: tuple[Volume, Labels]) -> None:
    volume, labels = thorax
    assert end_slices_cm2(labels, volume.grid) == (0.0, 0.0)
    cut = labels[8:]
    areas = end_slices_cm2(cut, volume.grid)
    assert areas[0] == pytest.approx(2 * np.pi * 10 * 5.5, rel=0.02)
    finding = lung_on_end_slice("inspiration", areas)
    assert finding.verdict == "fail"
    assert "first slice on inspiration" in finding.sentence
    assert lung_on_end_slice("inspiration", (0.8, 0.0)).verdict == "pass"
    assert lung_on_end_slice("inspiration", (0.0, 5.4)).verdict == "warn"


def test_a_lung_that_the_field_of_view_cuts_at_its_side_is_named_by_its_area(
    thorax: tuple[Volume, Labels],
) -> None:
    volume, labels = thorax
    assert sides_cm2(labels, volume) == 0
    box = slice(0, 60), slice(0, 128), slice(42, 128)  # in the middle of the right lung
    area = sides_cm2(labels[box], volume.crop(box))
    assert area == pytest.approx(44 * 2 * 200 / 100, rel=0.05)
    finding = lung_at_the_sides("expiration", area)
    assert finding.verdict == "warn"
    assert "a part of the lung is missing" in finding.sentence
    assert lung_at_the_sides("expiration", 0.0).verdict == "pass"


def test_padding_outside_the_circle_cuts_a_lung_but_a_mask_does_not(
    thorax: tuple[Volume, Labels],
) -> None:
    volume, labels = thorax
    j, i = (np.indices(GRID.shape[1:]) - 63.5) * 3.0
    circle = np.where(np.hypot(j, i - 90) > 190, -2048, volume.array).astype(np.int16)
    mask = np.where(labels > 0, volume.array, -2048).astype(np.int16)
    assert sides_cm2(labels, Volume(circle, GRID)) > 10
    assert sides_cm2(labels, Volume(mask, GRID)) == 0
    k, j, i = (slice(int(n.min()), int(n.max()) + 1) for n in np.nonzero(labels))
    tight = (k, j, i)
    assert sides_cm2(labels[tight], Volume(mask, GRID).crop(tight)) == 0


@pytest.mark.parametrize(("hu", "verdict"), [(0, "pass"), (30, "pass"), (100, "warn")])
def test_noise_is_measured_in_soft_tissue(thorax: tuple[Volume, Labels], hu: int, verdict: str) -> None:
    volume, _ = thorax
    noisy = faults.noise(volume, hu, np.random.default_rng(0)) if hu else volume
    measured = noise_hu(noisy)
    assert measured == pytest.approx(np.hypot(15, hu), rel=0.2)  # part of grainy noise stays within a block
    assert noise("expiration", measured).verdict == verdict


def test_noise_of_a_volume_without_soft_tissue_is_not_judged(thorax: tuple[Volume, Labels]) -> None:
    volume, labels = thorax
    lung = Volume(
        np.where(labels > 0, np.asarray(volume.array, np.int16), -1000).astype(np.int16), volume.grid
    )
    assert noise("x", noise_hu(lung)).verdict == "pass"


def test_metal_in_the_body_is_named_with_its_slices_and_the_lung_beside_it(
    thorax: tuple[Volume, Labels],
) -> None:
    volume, labels = thorax
    rods = faults.metal(volume, range(20, 28), [(30.0, 40.0), (90.0, 64.0)], 10.0, np.random.default_rng(0))
    found = find_metal(rods, labels, (1, 1, 1))
    assert found.slices == (20, 27)
    assert found.lung_percent == pytest.approx(100 * 8 / 44)
    sentence = metal("inspiration", found).sentence
    assert "slices 21 to 28" in sentence
    assert "18 % of the lungs" in sentence


def test_an_electrode_on_the_skin_is_no_metal_in_the_body(thorax: tuple[Volume, Labels]) -> None:
    volume, labels = thorax
    array = np.array(volume.array, dtype=np.int16)
    array[20:24, 6:8, 62:66] = 3071  # 170 mm in front of the middle
    assert find_metal(Volume(array, volume.grid), labels, (1, 1, 1)) == Metal(0.0)


def test_streaks_are_darkest_between_two_rods(thorax: tuple[Volume, Labels]) -> None:
    volume, _ = thorax
    centres = [(63.5, 30.0), (63.5, 97.0)]
    streaked = faults.metal(volume, range(2, 4), centres, 10.0, np.random.default_rng(0))
    change = streaked.array[2].astype(float) - volume.array[2]
    assert change[62:66, 50:80].mean() < -100
    assert abs(change[20:30, 50:80].mean()) < 20


@pytest.mark.parametrize("ml", [250.0, 500.0, 1000.0])
def test_an_effusion_on_one_phase_is_named_in_ml(thorax: tuple[Volume, Labels], ml: float) -> None:
    volume, labels = thorax
    wet = faults.effusion(volume, labels, ml, np.random.default_rng(0))
    dry_labels = np.where(wet.array < -300, labels, 0).astype(np.uint8)
    dry, more = behind_lungs(labels, volume), behind_lungs(dry_labels, wet)
    finding = effusion(dry, more)
    assert finding.verdict == "warn"
    assert finding.value is not None
    assert f"at least {finding.value:.0f} ml on expiration" in finding.sentence
    assert 0.3 * ml < finding.value < 1.1 * ml
    assert effusion(more, dry).value == finding.value


@pytest.mark.parametrize("wall_mm", [0.0, 12.0, 40.0])
def test_a_thick_chest_wall_behind_lungs_that_grow_is_no_effusion(wall_mm: float) -> None:
    assert effusion(Behind(wall_mm, 400.0), Behind(wall_mm, 250.0)).verdict == "pass"
    assert effusion(Behind(wall_mm, 400.0), Behind(wall_mm + 10, 250.0)).verdict == "warn"


def test_lungs_that_descend_before_an_even_chest_wall_have_as_much_behind_them(
    thorax: tuple[Volume, Labels],
) -> None:
    volume, labels = thorax
    higher = labels.copy()
    higher[:30] = 0
    hu = np.where((labels > 0) & (higher == 0), 40, volume.array).astype(np.int16)
    lower, upper = behind_lungs(labels, volume), behind_lungs(higher, Volume(hu, volume.grid))
    assert lower.thick_mm > 3
    assert lower.area_cm2 > 1.5 * upper.area_cm2
    assert effusion(lower, upper).verdict == "pass"


def test_what_lies_behind_the_lungs_is_the_same_however_the_volume_is_stored(
    thorax: tuple[Volume, Labels],
) -> None:
    volume, labels = thorax
    wet = faults.effusion(volume, labels, 500.0, np.random.default_rng(0))
    rest = np.where(wet.array < -300, labels, 0).astype(np.uint8)
    affine = volume.grid.affine[:, [1, 2, 0, 3]]
    turned = Volume(
        np.ascontiguousarray(np.transpose(wet.array, (1, 2, 0))),
        Grid((GRID.shape[1], GRID.shape[2], GRID.shape[0]), affine),
    )
    assert astuple(behind_lungs(np.transpose(rest, (1, 2, 0)), turned)) == pytest.approx(
        astuple(behind_lungs(rest, wet))
    )


def test_every_sentence_fits_a_report_without_a_character_set(
    thorax: tuple[Volume, Labels], anatomy: Volume
) -> None:
    volume, labels = thorax
    rods = faults.metal(volume, range(20, 28), [(30.0, 40.0)], 10.0, np.random.default_rng(0))
    said = [
        lung_on_end_slice("inspiration", end_slices_cm2(labels[8:], volume.grid)),
        lung_at_the_sides("inspiration", 20.0),
        noise("inspiration", 90.0),
        metal("inspiration", find_metal(rods, labels, (1, 1, 1))),
        effusion(Behind(0.0, 250.0), Behind(20.0, 250.0)),
        *(
            step("expiration", largest_step(scan))
            for scan in (
                faults.breathing_step(anatomy, 30, 10.0, np.random.default_rng(0)),
                faults.breathing_step(anatomy, 30, -10.0, np.random.default_rng(0)),
                faults.lateral_step(anatomy, 30, 6.0),
            )
        ),
    ]
    assert {f.verdict for f in said} <= {"warn", "fail"}
    for finding in said:
        assert (finding.check + finding.limit + finding.sentence + finding.unit).isascii(), finding


@pytest.mark.parametrize(
    ("air", "tissue", "shared", "verdict"),
    [
        (0.0, 0.0, 0.0, "pass"),
        (12.0, 12.0, 12.0, "warn"),
        (-30.0, -11.0, -11.0, "warn"),
        (-30.0, -21.0, -21.0, "fail"),
        (9.0, 14.0, 9.0, "pass"),
        (40.0, -15.0, 0.0, "pass"),  # a narrow trachea, and a heart beside more fat
        (30.0, 0.0, 0.0, "pass"),
    ],
)
def test_a_phase_that_is_denser_in_air_and_tissue_alike_is_told(
    air: float, tissue: float, shared: float, verdict: str
) -> None:
    found = density_offset((-965 + air, -965), (38 + tissue, 38))
    assert (found.value, found.verdict) == (shared, verdict)
    denser = f"{'expiration' if air > 0 else 'inspiration'} is denser throughout"
    assert (denser in found.sentence) == (verdict != "pass")
    assert all(f"> {hu:g}" in found.limit for hu in OFFSET_HU)


def test_phases_without_a_trachea_or_a_heart_are_not_compared() -> None:
    for trachea, heart in (((np.nan, -965.0), (40.0, 20.0)), ((-900.0, -965.0), (40.0, np.nan))):
        found = density_offset(trachea, heart)
        assert (found.value, found.verdict) == (None, "pass")


@pytest.mark.parametrize(
    ("distance_mm", "jump_mm", "verdict"),
    [
        (1.0, 1.4, "pass"), (1.0, 1.6, "warn"), (2.5, 3.1, "fail"),
        (3.0, 1.7, "pass"), (3.0, 1.9, "warn"), (3.0, 3.7, "fail"),
        (5.0, 2.9, "pass"), (5.0, 3.1, "warn"), (5.0, 6.1, "fail"),
    ],
)  # fmt: skip
def test_the_limits_of_a_step_grow_with_the_distance_of_slices(
    distance_mm: float, jump_mm: float, verdict: str
) -> None:
    found = Step(jump_mm=jump_mm, along_mm=jump_mm, distance_mm=distance_mm, slices=(3, 4), count=60)
    assert step("inspiration", found).verdict == verdict
