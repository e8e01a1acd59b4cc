"""Every bad pair ends in a sentence, never in a silent result."""

import numpy as np
import pytest

from analysis.errors import Rejected
from analysis.measures.density import density_offset, trachea_air, trachea_hu
from analysis.measures.quality import lungs_found
from analysis.pipeline.pipeline import Parameters, Phase, analyse, analyse_phases
from analysis.truth.phantom import ThoraxShape, thorax_phantom
from analysis.volume import Grid, Volume


@pytest.fixture(scope="module")
def pair() -> tuple[Volume, Volume]:
    truth = thorax_phantom(shape=ThoraxShape(in_plane_mm=2.5, slice_mm=4))
    return truth.inspiratory, truth.expiratory


def refused(insp: Volume, exp: Volume) -> str:
    with pytest.raises(Rejected) as error:
        analyse(insp, exp)
    return str(error.value)


def test_swapped_phases_are_named(pair: tuple[Volume, Volume]) -> None:
    insp, exp = pair
    assert "one phase twice, or swapped" in refused(exp, insp)


def test_a_scan_that_stops_in_the_lungs_is_named(pair: tuple[Volume, Volume]) -> None:
    insp, exp = pair
    cut = [
        volume.crop(
            (
                slice(volume.array.shape[0] // 3, volume.array.shape[0]),
                slice(0, volume.array.shape[1]),
                slice(0, volume.array.shape[2]),
            )
        )
        for volume in (insp, exp)
    ]
    assert "the scan does not cover the lungs" in refused(*cut)


def test_a_scan_too_narrow_for_a_lung_is_named(pair: tuple[Volume, Volume]) -> None:
    cut = [
        v.crop((slice(0, v.grid.shape[0]), slice(0, v.grid.shape[1]), slice(40, v.grid.shape[2])))
        for v in pair
    ]
    assert "the scan does not cover the lungs" in refused(*cut)


def test_a_lung_that_only_one_phase_shows_is_named(pair: tuple[Volume, Volume]) -> None:
    insp, exp = pair
    filled = exp.array.copy()
    half = filled.shape[2] // 2
    filled[:, :, :half] = np.where(filled[:, :, :half] < -300, 40, filled[:, :, :half])
    parameters = Parameters(accept_failed_checks=True)
    with pytest.raises(Rejected, match="lung was found only in inspiration"):
        analyse(insp, Volume(filled, exp.grid), parameters)


def test_one_lung_in_both_phases_is_a_warning(pair: tuple[Volume, Volume]) -> None:
    parameters = Parameters(accept_failed_checks=True)
    phases = []
    for volume in pair:
        filled = volume.array.copy()
        half = filled.shape[2] // 2
        filled[:, :, :half] = np.where(filled[:, :, :half] < -300, 40, filled[:, :, :half])
        phases.append(Phase.of(Volume(filled, volume.grid), parameters))
    result = analyse_phases(phases[0], phases[1], parameters)
    finding = next(f for f in result.findings if f.check == "lungs found")
    assert (finding.verdict, finding.value) == ("warn", 1.0)
    assert "no right lung" in finding.sentence
    assert np.isfinite(result.measures["lungs"]["total_abnormal"])


def test_an_expiration_that_is_denser_throughout_is_told(pair: tuple[Volume, Volume]) -> None:
    insp, exp = (Phase.of(volume, Parameters()).scan for volume in pair)
    off = Phase.of(Volume(pair[1].array + np.int16(30), pair[1].grid), Parameters()).scan
    told = {
        name: density_offset((one.trachea_hu, insp.trachea_hu), (one.mediastinal_hu, insp.mediastinal_hu))
        for name, one in (("as it is", exp), ("30 HU off", off))
    }
    assert told["as it is"].verdict == "pass"
    assert told["30 HU off"].verdict == "fail"
    assert told["30 HU off"].value == pytest.approx(30, abs=5)


def test_both_lungs_pass() -> None:
    assert lungs_found(np.array([[[0, 1, 2]]], np.uint8)).verdict == "pass"


def test_a_volume_without_values_or_with_one_value_only_is_refused() -> None:
    grid = Grid.axial((4, 4, 4), (2.0, 2.0, 2.0))
    with pytest.raises(Rejected, match="not finite"):
        Volume(np.full(grid.shape, np.nan, np.float32), grid)
    with pytest.raises(Rejected, match="constant"):
        Volume(np.full(grid.shape, -1000, np.int16), grid)


def test_a_volume_without_lungs_is_refused(pair: tuple[Volume, Volume]) -> None:
    _, exp = pair
    solid = Volume(np.where(exp.array < -200, 40, exp.array).astype(np.int16), exp.grid)
    assert "no lungs found" in refused(solid, solid)


def test_air_is_measured_in_the_middle_of_the_trachea() -> None:
    grid = Grid.axial((30, 21, 21), (2.0, 2.0, 2.0))
    radius = np.linalg.norm(np.indices(grid.shape[1:]) - 10, axis=0) * 2.0
    hu = np.broadcast_to(np.where(radius < 6, -995, np.where(radius < 9, -900, 40)), grid.shape)
    volume = Volume(hu.astype(np.int16), grid)
    airways = np.broadcast_to(radius < 9, grid.shape)
    assert trachea_hu(airways, volume) == -995
    assert np.isnan(trachea_hu(airways & False, volume))


@pytest.mark.parametrize(
    ("hu", "verdict"),
    [(-1040, "warn"), (-1005, "pass"), (-968, "pass"), (-964, "pass"), (-930, "warn"), (np.nan, "warn")],
)
def test_air_in_the_trachea_is_as_dense_as_clean_scans_make_it(hu: float, verdict: str) -> None:
    """Clean CTs of three makers measure -968 to -964; a check that every scan fails tells nobody anything."""
    assert trachea_air("inspiration", hu).verdict == verdict
