"""Captures, maps, PDF, text report and key objects are valid DICOM, lie where the CT lies, and show the analysis."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_objects import assert_equal, dciodvfy
from made import ORIGIN, SHAPE, analysis_of, by_uid, case_from, case_of, enhanced, thorax
from PIL import Image, ImageDraw
from pydicom import Dataset, dcmread
from scipy import ndimage

from analysis.anatomy.regions import REGIONS
from analysis.figures.captures import grey, legend_bar, legend_size, lung_slices, strip, worst_slices
from analysis.figures.colours import ABNORMAL, CLASS_RGB, map_rgb
from analysis.figures.edges import edge_letters, font, letter_places, letter_size, write_letters
from analysis.figures.impression import impression
from analysis.figures.report import A4, ON_FIRST_PAGE, Facts, report_pdf
from analysis.figures.scales import shown
from analysis.limits_of_use import RESEARCH_USE
from analysis.measures.digits import text_of
from analysis.measures.findings import Finding, Verdict
from analysis.measures.table import MEASURES
from analysis.parameters import PictureStyle
from analysis.pipeline.pipeline import Analysis
from analysis.volume import Grid, Volume
from analysis.vq.classes import VQClass
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.dicom.pixels import load_volume
from dicom_node.results import parametric_map
from dicom_node.results.captures import build_captures
from dicom_node.results.context import Case
from dicom_node.results.kinds import KINDS, OBJECT_KINDS, build_objects
from dicom_node.results.maps import MAPS
from dicom_node.results.parametric_map import build_maps
from dicom_node.results.report_pdf import build_pdf

EXP, INSP = thorax(-700, (52, 160, 256), (2.5, 1.5, 1.25)), thorax(-850)
FOOTER = f"{RESEARCH_USE} vq-dicom-node {version('vq-dicom-node')} 0.1.0 page 1 2 of 3".split()
NAMES = {
    "ISO_IR 192": "Müller^Jürgen",
    "ISO_IR 144": "Иванов^Пётр",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
}


def as_bytes(ds: Dataset) -> bytes:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def all_of(analysis: Analysis, case: Case, ct: Volume) -> dict[str, list[Dataset]]:
    found: dict[str, list[Dataset]] = {kind: [] for kind in OBJECT_KINDS}
    for kind, ds in build_objects(analysis, case, lambda: ct, OBJECT_KINDS):
        found[kind].append(dcmread(BytesIO(as_bytes(ds))))
    return found


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(tmp_path_factory.mktemp("pair"), EXP, INSP, PatientName="Müller^Jürgen")


@pytest.fixture(scope="module")
def analysis(case: Case) -> Analysis:
    return analysis_of(case.pair.expiratory)


@pytest.fixture(scope="module")
def made(analysis: Analysis, case: Case) -> dict[str, list[Dataset]]:
    return all_of(analysis, case, EXP)


def captures(made: dict[str, list[Dataset]], series: int) -> list[Dataset]:
    return [ds for ds in made["captures"] if ds.SeriesNumber == series]


def expected_classes(analysis: Analysis, hu: np.ndarray, k: int) -> np.ndarray:
    out = np.repeat(grey(hu[k])[..., None], 3, axis=2).astype(float)
    for c in ABNORMAL:
        out[analysis.classes[k] == c] = CLASS_RGB[c]
    return out


def test_every_capture_lies_where_its_slice_lies(made: dict[str, list[Dataset]], case: Case) -> None:
    slices = case.pair.expiratory.slices
    for series in (9711, 9712, 9713):
        found = captures(made, series)
        assert len({ds.SeriesInstanceUID for ds in found}) == 1
        for ds in found:
            slice_ = slices[int(ds.InstanceNumber) - 1]
            assert tuple(ds.ImagePositionPatient) == pytest.approx(slice_.position)
            assert tuple(ds.ImageOrientationPatient) == pytest.approx(slice_.orientation)
            assert tuple(ds.PixelSpacing) == pytest.approx(slice_.spacing)
            assert ds.FrameOfReferenceUID == case.expiratory[0].FrameOfReferenceUID
            assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == slice_.sop_instance_uid
            assert ds.PatientOrientation == ["L", "P"]


def test_every_slice_with_lung_has_its_capture(made: dict[str, list[Dataset]], analysis: Analysis) -> None:
    for series in (9711, 9712, 9713):
        numbers = [int(ds.InstanceNumber) - 1 for ds in captures(made, series)]
        assert tuple(numbers) == lung_slices(analysis)


def test_a_capture_shows_the_classes_at_their_pixels(
    made: dict[str, list[Dataset]], analysis: Analysis
) -> None:
    rows, columns = EXP.grid.shape[1:]
    for ds in captures(made, 9713)[3:-3:7]:
        k = int(ds.InstanceNumber) - 1
        shown = ds.pixel_array[:rows, :columns].astype(float)
        assert ds.Rows > rows
        error = np.abs(shown - expected_classes(analysis, EXP.array, k)).max(axis=2)
        # JPEG smears the colour across a class border; inside, it must be right
        assert np.percentile(error[analysis.classes[k] > 0], 90) < 12
        assert error.mean() < 6


def test_a_capture_shows_the_ventilation_at_its_pixels(
    made: dict[str, list[Dataset]], analysis: Analysis
) -> None:
    mean = np.nanmean(analysis.maps["V"])
    ds = captures(made, 9712)[20]
    k = int(ds.InstanceNumber) - 1
    where = np.isfinite(analysis.maps["V"][k])
    expected = map_rgb(analysis.maps["V"][k] / mean, "V", 2.0).astype(float)
    error = np.abs(ds.pixel_array[: where.shape[0]].astype(float) - expected).max(axis=2)
    assert np.percentile(error[where], 90) < 12


def planted(analysis: Analysis, layer: str, shares: np.ndarray) -> Analysis:
    """The analysis with a map of vertical bars, one for each share of the mean, wide enough for JPEG."""
    values = analysis.maps[layer]
    i = np.arange(values.shape[2]) * len(shares) // values.shape[2]
    bars = np.where(np.isfinite(values), shares[i], np.nan)
    return replace(analysis, maps={**analysis.maps, layer: bars.astype(np.float32)})


@pytest.mark.parametrize("scale", ["mean", "absolute", "percentile"])
@pytest.mark.parametrize("layer", ["V", "Q"])
def test_what_the_legend_shows_is_what_the_lung_shows(
    analysis: Analysis, case: Case, layer: str, scale: Any
) -> None:
    """Decoded from JPEG: lung of a known value has the colour of the legend's bar at that value."""
    style = PictureStyle(scale=scale, top_v=0.8, top_q=0.8)
    changed = planted(analysis, layer, np.array([0.1, 0.25, 0.4, 0.55, 0.7, 0.3, 0.2, 0.6]))
    series = {"Q": 9711, "V": 9712}[layer]
    ds = next(
        d for d in build_captures(changed, replace(case, style=style), EXP)
        if d.SeriesNumber == series and int(d.InstanceNumber) == 21
    )  # fmt: skip
    picture = dcmread(BytesIO(as_bytes(ds))).pixel_array.astype(float)
    rows, columns = EXP.grid.shape[1:]
    left, top, width, height = legend_bar(columns)
    bar = picture[rows + top + height // 2, left : left + width]
    found = shown(changed, layer, style)
    values = changed.maps[layer][20]
    sampled = 0
    for value in np.unique(values[np.isfinite(values)]):
        inside = ndimage.binary_erosion(values == value, iterations=4)
        # JPEG halves the chroma: at its very end the bar bleeds into the black beside it
        if not inside.any() or value / found.by > 0.97 * found.top:
            continue
        at = round(value / found.by / found.top * (width - 1))
        colour = np.median(picture[:rows][inside], axis=0)
        assert np.abs(colour - bar[max(0, at - 1) : at + 2].mean(axis=0)).max() < 8, value
        sampled += 1
    assert sampled >= 4


def test_the_legend_of_the_classes_has_their_colours(
    made: dict[str, list[Dataset]], analysis: Analysis
) -> None:
    rows = EXP.grid.shape[1]
    ds = captures(made, 9713)[4]
    picture, k = ds.pixel_array.astype(float), int(ds.InstanceNumber) - 1
    legend = picture[rows:].reshape(-1, 3)
    found = 0
    for c in ABNORMAL:
        assert (np.abs(legend - CLASS_RGB[c]).max(axis=1) < 25).sum() >= 12, c
        inside = ndimage.binary_erosion(analysis.classes[k] == c, iterations=1)
        if inside.any():
            assert np.abs(np.median(picture[:rows][inside], axis=0) - CLASS_RGB[c]).max() < 25, c
            found += 1
    assert found


@pytest.mark.parametrize("columns", [256, 340, 512])
def test_the_words_of_the_class_legend_are_whole_and_large_enough(analysis: Analysis, columns: int) -> None:
    """No line runs into the right margin, and none is of letters that are less than 5 pixels high."""
    rows = strip(analysis, "classes", PictureStyle(), columns, 0.8).max(axis=2) > 100
    line = legend_size(columns) * 3 // 2
    assert not rows[line:, -2:].any()
    for n in (1, 2, 3, 4):
        written = np.flatnonzero(rows[n * line + 2 : (n + 1) * line + 3].any(axis=1))
        assert np.ptp(written) >= 5


@pytest.mark.parametrize("layer", ["V", "Q"])
@pytest.mark.parametrize("columns", [256, 280, 512])
def test_the_scale_s_last_number_keeps_its_unit(analysis: Analysis, layer: str, columns: int) -> None:
    """It stands below the bar's end, or further left: the right margin stays free of it."""
    _, top, _, height = legend_bar(columns)
    rows = strip(analysis, layer, PictureStyle(), columns, 0.8).max(axis=2) > 100
    below = rows[top + height + 3 :]
    assert below.any()
    assert not below[:, -2:].any()


def test_normal_lung_and_mediastinum_keep_the_greys_of_the_ct(
    made: dict[str, list[Dataset]], analysis: Analysis
) -> None:
    ds = captures(made, 9713)[20]
    k = int(ds.InstanceNumber) - 1
    picture = ds.pixel_array[: EXP.grid.shape[1]].astype(float)
    normal = ndimage.binary_erosion(analysis.classes[k] == VQClass.NORMAL, iterations=3)
    assert np.ptp(picture[normal], axis=1).max() < 20  # no tint
    # fat and muscle differ by 150 HU; a window of the lung alone made both white
    assert int(grey(np.array([50.0]))[0]) - int(grey(np.array([-100.0]))[0]) > 50


def glyph_matches(picture: np.ndarray, place: tuple[int, int], letter: str, width: int) -> float:
    """How well a letter drawn by the same font fits a place: the correlation of brightness."""
    size = letter_size(width)
    canvas = Image.new("L", (3 * size, 3 * size))
    ImageDraw.Draw(canvas).text(
        (3 * size // 2, 3 * size // 2), letter, font=font(size), fill=255, anchor="mm"
    )
    x, y = place
    half = 3 * size // 2
    there = np.pad(picture.mean(axis=2), half)[y : y + 2 * half, x : x + 2 * half]
    drawn = np.asarray(canvas, dtype=float)[: 2 * half, : 2 * half]
    box = ndimage.binary_dilation(drawn > 0, iterations=1)
    return float(np.corrcoef(drawn[box], there[box])[0, 1])


def best_letter(picture: np.ndarray, place: tuple[int, int]) -> str:
    return max("RLAPSI", key=lambda letter: glyph_matches(picture, place, letter, picture.shape[1]))


@pytest.mark.parametrize(
    ("kind", "letters"), [("captures", "RLAP"), ("coronal", "RLSI"), ("sagittal", "APSI")]
)
def test_the_letters_of_the_patients_sides_stand_at_the_edges(
    made: dict[str, list[Dataset]], kind: str, letters: str
) -> None:
    ds = next(d for d in made[kind] if d.SeriesNumber != 9705)
    picture = ds.pixel_array.astype(float)
    # the legend below has a height that follows from the width
    picture = picture[: ds.Rows - legend_size(max(ds.Columns, 256)) * 3 // 2 * 6]
    places = letter_places(picture.shape[1], picture.shape[0])
    assert "".join(best_letter(picture, place) for place in places) == letters


def test_letters_follow_the_patient_who_lies_otherwise() -> None:
    """Prone, head first: the first column is the patient's left, the first row the back."""
    assert edge_letters((-1, 0, 0), (0, -1, 0)) == ("L", "R", "P", "A")
    drawn = write_letters(np.full((90, 280, 3), 120, np.uint8), ("L", "R", "P", "A")).astype(float)
    assert "".join(best_letter(drawn, place) for place in letter_places(280, 90)) == "LRPA"


def test_only_named_captures_carry_the_patient_in_their_pixels(
    made: dict[str, list[Dataset]], case: Case
) -> None:
    assert {ds.BurnedInAnnotation for ds in made["named_captures"]} == {"YES"}
    plain = made["captures"] + made["coronal"] + made["sagittal"]
    assert {ds.BurnedInAnnotation for ds in plain} == {"NO"}
    assert case.who.startswith("Müller, Jürgen   ")
    first, named = (captures({"captures": made[kind]}, n)[5].pixel_array.astype(float)
                    for kind, n in (("captures", 9713), ("named_captures", 9733)))  # fmt: skip
    rows = EXP.grid.shape[1]
    assert np.abs(first[:rows] - named[:rows]).max() == 0
    assert (np.abs(first[rows:] - named[rows:]).max(axis=2) > 100).sum() > 50


def test_a_coronal_slab_lies_where_its_voxels_lie(made: dict[str, list[Dataset]], analysis: Analysis) -> None:
    """The mean over a slab of a defect, found at the patient's point by the object's own geometry."""
    grid = analysis.expiratory
    centre = np.array(ndimage.center_of_mass(analysis.classes[:, :, : grid.shape[2] // 2] == VQClass.SHUNT))
    point = grid.points(centre[None])[0]
    found = [ds for ds in made["coronal"] if ds.SeriesNumber == 9716]
    ds = min(found, key=lambda d: abs(float(d.ImagePositionPatient[1]) - point[1]))
    across, down = np.reshape(np.array(ds.ImageOrientationPatient, dtype=float), (2, 3))
    offset = point - np.array(ds.ImagePositionPatient, dtype=float)
    column, row = (round(float(offset @ d) / float(ds.PixelSpacing[0])) for d in (across, down))
    colour = ds.pixel_array[row, column].astype(float)
    assert np.abs(colour - CLASS_RGB[VQClass.SHUNT]).max() < 30
    assert float(ds.SliceThickness) == pytest.approx(10, abs=0.8)
    assert (tuple(across), tuple(down)) == ((1, 0, 0), (0, 0, -1))


@pytest.mark.parametrize("name", ["V", "Q", "m", "V/Q", "jacobian"])
def test_a_map_read_back_by_position_is_the_array(
    made: dict[str, list[Dataset]], analysis: Analysis, name: str
) -> None:
    labels = {"V": "VQ_VENTILATION", "Q": "VQ_PERFUSION", "m": "VQ_MASS_CHANGE", "V/Q": "VQ_RATIO"}
    (ds,) = (d for d in made["maps"] if d.ContentLabel == labels.get(name, "VQ_JACOBIAN"))
    assert_map(ds, analysis, name)
    mapping = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    units = {"V": "ml/ml", "Q": "g/ml", "m": "g/ml"}
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == units.get(name, "1")
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodingSchemeDesignator == "99VQ"


def assert_map(ds: Dataset, analysis: Analysis, name: str) -> None:
    """Every voxel of the CT has the value of the working grid's voxel its centre lies in, by position."""
    grid = analysis.expiratory
    found = frames_by_position(ds, grid)
    rows, columns = np.meshgrid(np.arange(grid.shape[1]), np.arange(grid.shape[2]), indexing="ij")
    assert np.ptp(found) > 0
    for k, frame in enumerate(found):
        centres = np.stack([np.full(rows.size, k), rows.ravel(), columns.ravel()], axis=1).astype(float)
        inside = np.floor(analysis.grid.indices(grid.points(centres)) + 0.5 + 1e-6).astype(int)
        known = ((inside >= 0) & (inside < analysis.grid.shape)).all(axis=1) & (analysis.lungs[k].ravel() > 0)
        expected = np.zeros(rows.size, dtype=np.float32)
        expected[known] = np.nan_to_num(analysis.maps[name][tuple(inside[known].T)], nan=0.0)
        np.testing.assert_array_equal(frame.ravel(), expected)


def frames_by_position(ds: Dataset, grid: Grid) -> np.ndarray:
    found = np.full(grid.shape, np.nan, dtype=np.float32)
    for frame, groups in zip(ds.pixel_array, ds.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array([groups.PlanePositionSequence[0].ImagePositionPatient], dtype=float)
        k, j, i = grid.indices(position)[0]
        assert (k, j, i) == pytest.approx((round(k), 0, 0), abs=1e-3)
        found[round(k)] = frame
    shared = ds.SharedFunctionalGroupsSequence[0]
    orientation = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3))
    np.testing.assert_allclose(orientation, grid.directions.T[[2, 1]], atol=1e-6)
    assert shared.PixelMeasuresSequence[0].PixelSpacing == pytest.approx(grid.spacing[1:])
    return found


def test_a_map_has_a_frame_for_every_slice_of_the_ct_and_names_it(
    made: dict[str, list[Dataset]], case: Case
) -> None:
    at = {s.position: s.sop_instance_uid for s in case.pair.expiratory.slices}
    for ds in made["maps"]:
        assert (ds.NumberOfFrames, ds.Rows, ds.Columns) == EXP.grid.shape
        for groups in ds.PerFrameFunctionalGroupsSequence:
            x, y, z = map(float, groups.PlanePositionSequence[0].ImagePositionPatient)
            (source,) = groups.DerivationImageSequence[0].SourceImageSequence
            assert source.ReferencedSOPInstanceUID == at[x, y, z]


def test_a_map_too_large_for_a_pacs_stays_on_the_working_grid(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = analysis_of(case.pair.expiratory, work=2)
    size = 4 * EXP.array.size
    for largest, grid in ((size, coarse.expiratory), (size - 1, coarse.grid)):
        monkeypatch.setattr(parametric_map, "LARGEST", largest)
        ds = dcmread(BytesIO(as_bytes(next(build_maps(coarse, case)))))
        found = frames_by_position(ds, grid)
        assert float(found.max()) == pytest.approx(float(np.nanmax(coarse.maps["V"])))


@pytest.mark.parametrize(
    ("row", "column"),
    [((-1, 0, 0), (0, -1, 0)), ((-1, 0, 0), (0, 1, 0)), ((0, 1, 0), (-1, 0, 0)),
     ((0.96, 0, -0.28), (0.168, 0.8, 0.576))],
    ids=["prone", "feet first", "decubitus", "doubly oblique"],
)  # fmt: skip
def test_captures_and_maps_keep_every_orientation(tmp_path: Path, row: Any, column: Any) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([np.cross(row, column) * 2.5, np.multiply(column, 4.0),
                                      np.multiply(row, 3.75)])  # fmt: skip
    affine[:3, 3] = ORIGIN
    ct = Volume(thorax(-700).array, Grid(SHAPE, affine))
    case = case_of(tmp_path, ct, INSP)
    analysis = analysis_of(case.pair.expiratory, work=2)
    made = all_of(analysis, case, ct)
    for ds, name in zip(made["maps"], (name for name, kind in MAPS.items() if kind.label), strict=True):
        assert_map(ds, analysis, name)
    for ds in captures(made, 9713):
        position = np.array([ds.ImagePositionPatient], dtype=float)
        k, j, i = analysis.expiratory.indices(position)[0]
        assert (k, j, i) == pytest.approx((int(ds.InstanceNumber) - 1, 0, 0), abs=1e-3)
    (tmp_path / "c.dcm").write_bytes(as_bytes(captures(made, 9711)[0]))
    assert dciodvfy(tmp_path / "c.dcm") == ""


@pytest.mark.parametrize("order", ["descending", "shuffled"])
def test_neither_instance_numbers_nor_file_order_move_a_result(tmp_path: Path, order: str) -> None:
    files = write_ct_series(thorax(-700), tmp_path / "e", Scan("Exp", "s", 2))
    numbers = np.arange(len(files), 0, -1)
    if order == "shuffled":
        numbers = np.random.default_rng(1).permutation(numbers)
    for path, number in zip(files, numbers.tolist(), strict=True):
        numbered = dcmread(path)
        numbered.InstanceNumber = number
        numbered.save_as(path)
    arrived = [files[n - 1] for n in numbers]
    case = case_from(arrived, write_ct_series(INSP, tmp_path / "i", Scan("Insp", "s", 1)))
    analysis = analysis_of(case.pair.expiratory, work=2)
    ct = load_volume(case.pair.expiratory, by_uid(files))
    made = all_of(analysis, case, ct)
    assert_equal(made["seg"][0], analysis)
    assert_map(made["maps"][0], analysis, "V")
    z = {str(ds.SOPInstanceUID): float(ds.ImagePositionPatient[2]) for ds in map(dcmread, files)}
    for ds in captures(made, 9713):
        k = round((float(ds.ImagePositionPatient[2]) - ORIGIN[2]) / 2.5)
        assert z[ds.SourceImageSequence[0].ReferencedSOPInstanceUID] == pytest.approx(ORIGIN[2] + 2.5 * k)
        at = round(analysis.expiratory.indices(np.array([ds.ImagePositionPatient], dtype=float))[0][0])
        expected = expected_classes(analysis, ct.array, at)
        error = np.abs(ds.pixel_array[: SHAPE[1]].astype(float) - expected).mean(axis=2)
        assert error[analysis.lungs[at] > 0].mean() < 12, k  # letters are written beside the lungs


def test_captures_of_an_enhanced_ct_name_its_frames(tmp_path: Path) -> None:
    case = case_from([enhanced(tmp_path)], write_ct_series(INSP, tmp_path / "i", Scan("Insp", "s", 3)))
    analysis = analysis_of(case.pair.expiratory)
    made = all_of(analysis, case, Volume(np.arange(np.prod(analysis.expiratory.shape), dtype=np.float32).reshape(
        analysis.expiratory.shape), analysis.expiratory))  # fmt: skip
    for ds in captures(made, 9713):
        assert ds.SourceImageSequence[0].ReferencedFrameNumber == ds.InstanceNumber
    assert_map(made["maps"][0], analysis, "V")
    assert_equal(made["seg"][0], analysis)
    for kind in OBJECT_KINDS:
        (tmp_path / "x.dcm").write_bytes(as_bytes(made[kind][-1]))
        assert dciodvfy(tmp_path / "x.dcm") == "", kind


def test_dciodvfy_finds_no_error_in_any_object(made: dict[str, list[Dataset]], tmp_path: Path) -> None:
    chosen = [ds for kind in OBJECT_KINDS for ds in (made[kind] if kind == "maps" else made[kind][:2])]
    assert len(chosen) >= 13
    for ds in chosen:
        (tmp_path / "x.dcm").write_bytes(as_bytes(ds))
        assert dciodvfy(tmp_path / "x.dcm") == "", ds.SeriesDescription


def test_objects_are_of_the_class_and_syntax_that_the_conformance_statement_names(
    made: dict[str, list[Dataset]],
) -> None:
    classes = {kind.name: (kind.sop_class, kind.transfer_syntax) for kind in KINDS}
    assert set(made) == set(classes)
    for kind, objects in made.items():
        assert {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in objects} == {classes[kind]}
        assert not any(element.tag.is_private for ds in objects for element in ds.iterall())


def test_no_two_objects_share_a_uid_or_a_series_number(made: dict[str, list[Dataset]]) -> None:
    objects = [ds for found in made.values() for ds in found]
    assert len({ds.SOPInstanceUID for ds in objects}) == len(objects)
    series = {(ds.SeriesInstanceUID, ds.SeriesNumber) for ds in objects}
    assert len({uid for uid, _ in series}) == len({number for _, number in series}) == len(series)
    assert all("research use" in ds.SeriesDescription and len(ds.SeriesDescription) <= 64 for ds in objects)


def test_a_retry_makes_the_same_bytes_of_every_object(
    made: dict[str, list[Dataset]], analysis: Analysis, case: Case
) -> None:
    again = all_of(analysis, case, EXP)
    for kind in OBJECT_KINDS:
        assert [as_bytes(ds) for ds in again[kind]] == [as_bytes(ds) for ds in made[kind]], kind


def test_only_what_is_asked_for_is_made(analysis: Analysis, case: Case) -> None:
    def no_ct() -> Volume:
        raise AssertionError("these are made without the images")

    kinds = [kind for kind, _ in build_objects(analysis, case, no_ct, ("text_sr", "maps"))]
    assert kinds == ["text_sr", *["maps"] * 5]


def test_key_objects_are_the_summary_and_the_worst_slices(
    made: dict[str, list[Dataset]], analysis: Analysis
) -> None:
    (document,) = made["key_objects"]
    pointed = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in document.ContentSequence
        if item.ValueType == "IMAGE"
    ]
    classes = {int(ds.InstanceNumber) - 1: ds.SOPInstanceUID for ds in captures(made, 9713)}
    worst = worst_slices(analysis)
    assert len(worst) >= 2
    assert pointed == [captures(made, 9705)[0].SOPInstanceUID, *(classes[k] for k in worst)]


def test_a_lung_without_defects_has_only_the_summary_as_key_object(case: Case) -> None:
    healthy = analysis_of(case.pair.expiratory, missing=tuple(VQClass)[2:])
    assert worst_slices(healthy) == ()
    (document,) = all_of(healthy, case, EXP)["key_objects"]
    assert sum(item.ValueType == "IMAGE" for item in document.ContentSequence) == 1


def pdf_text(document: bytes, folder: Path) -> list[str]:
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is not installed")
    (folder / "r.pdf").write_bytes(document)
    command = ["pdftotext", "-layout", str(folder / "r.pdf"), "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode().rstrip("\f").split("\f")


def test_the_pdf_says_who_what_and_how_far_to_trust_it(
    made: dict[str, list[Dataset]], analysis: Analysis, tmp_path: Path
) -> None:
    (ds,) = made["pdf"]
    pages = pdf_text(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength], tmp_path)
    assert len(pages) == 3
    assert all("Müller, Jürgen" in page and "Research use only" in page for page in pages)
    first, second = (" ".join(page.split()) for page in pages[:2])
    for sentence in impression(analysis):
        assert sentence.replace("+/-", "±") in first
    row = analysis.measures["lungs"]
    sd = row["shunt_sd"]
    assert f"{text_of(row['shunt'], '%', sd)} ± {text_of(sd, '%', sd)}" in first
    assert all(REGIONS[region] in first for region in analysis.measures)
    assert "Bria 1983" in first
    assert "Read by" in first
    assert "shunt-like: V below 60 %, Q kept" in first
    assert all(m.meaning in second for name, m in MEASURES.items() if name not in ON_FIRST_PAGE)
    assert all(finding.check in second for finding in analysis.findings)
    assert all(f.sentence in second for f in analysis.findings if f.verdict != "pass")
    assert "surrogate of perfusion" in second
    assert "Zach 2012" in second


def test_the_pdf_names_scan_and_technique_and_predicts_by_sex_age_and_height(tmp_path: Path) -> None:
    about = {"InstitutionName": "Clinic", "KVP": "120", "CTDIvol": 3.2, "PatientSex": "M", "PatientSize": "1.75",
             "PatientBirthDate": "19600101", "StudyDate": "20200101",
             "ReferringPhysicianName": "Meier^Ada"}  # fmt: skip
    case = case_of(tmp_path, thorax(-700), INSP, **about)
    analysis = analysis_of(case.pair.expiratory)
    pages = pdf_text(build_pdf(analysis, case).EncapsulatedDocument, tmp_path)
    first, second = (" ".join(page.split()) for page in pages[:2])
    for words in ("Clinic", "Meier, Ada", "120", "3.20 mGy", "60 years", "1.75 m"):
        assert words in first, words
    assert "5750–8050" in second  # 7.99 x 1.75 - 7.08 litres, 1.64 x 0.70 on each side


def words_of(document: bytes, folder: Path) -> list[tuple[float, float, float, str]]:
    """(right edge, lower edge, height of the page, word) of every word."""
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is not installed")
    (folder / "r.pdf").write_bytes(document)
    command = ["pdftotext", "-bbox", str(folder / "r.pdf"), "-"]
    found = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    word = re.compile(r'xMax="([\d.]+)" yMax="([\d.]+)">(.*)</word>')
    height = float(re.search(r'page width="[\d.]+" height="([\d.]+)"', found)[1])  # type: ignore[index]
    return [(float(x), float(y), height, text) for x, y, text in word.findall(found)]


def test_a_report_with_much_to_say_keeps_to_its_pages(analysis: Analysis, tmp_path: Path) -> None:
    verdicts: tuple[Verdict, ...] = ("fail", "warn", "pass")
    findings = tuple(
        Finding(f"check {n}", verdict, n, "1", "", f"Sentence {n} of a hundred: " + "what was found " * 9)
        for n, verdict in enumerate(verdicts * 20)
    )
    document = report_pdf(
        replace(analysis, findings=findings), Facts([("Patient", "Doe")]), datetime(2026, 1, 1)
    )
    found = words_of(document, tmp_path)
    width = A4[0] * 72
    told = sum(finding.verdict != "pass" for finding in findings)
    assert sum(text == "Sentence" for *_, text in found) == told
    footer = 0.965  # of the page, from above
    for right, lower, height, text in found:
        assert right < 0.96 * width, text
        assert lower < footer * height or text in FOOTER, text


@pytest.mark.parametrize("charset", NAMES)
def test_names_in_any_script_come_through(tmp_path: Path, charset: str) -> None:
    case = case_of(tmp_path, thorax(-700), INSP, SpecificCharacterSet=charset.split("\\"),
                   PatientName=NAMES[charset])  # fmt: skip
    analysis = analysis_of(case.pair.expiratory)
    for kind, found in all_of(analysis, case, thorax(-700)).items():
        assert {str(ds.PatientName) for ds in found} == {NAMES[charset]}, kind
        (tmp_path / "x.dcm").write_bytes(as_bytes(found[0]))
        assert dciodvfy(tmp_path / "x.dcm") == "", kind
        if kind == "pdf":
            text = pdf_text(found[0].EncapsulatedDocument, tmp_path)[0]
            assert NAMES[charset].split("=")[0].replace("^", ", ") in text


def test_the_text_report_names_every_number(made: dict[str, list[Dataset]], tmp_path: Path) -> None:
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump (dcmtk) is not installed")
    (tmp_path / "x.dcm").write_bytes(as_bytes(made["text_sr"][0]))
    done = subprocess.run(["dsrdump", "+Pl", str(tmp_path / "x.dcm")], capture_output=True, check=True)
    text = done.stdout.decode()
    assert text.count("Total abnormal, fraction of classified volume") == len(REGIONS)
    assert "Research use only" in text


def test_dcmtk_decodes_the_captures(made: dict[str, list[Dataset]], tmp_path: Path) -> None:
    if shutil.which("dcmj2pnm") is None:
        pytest.skip("dcmj2pnm (dcmtk) is not installed")
    for ds in (captures(made, 9705)[0], captures(made, 9713)[10]):
        (tmp_path / "x.dcm").write_bytes(as_bytes(ds))
        subprocess.run(["dcmj2pnm", "+op", str(tmp_path / "x.dcm"), str(tmp_path / "x.ppm")], check=True)
        assert f"{ds.Columns} {ds.Rows}".encode() in (tmp_path / "x.ppm").read_bytes()[:40]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["popi-00-philips", "normal001-siemens-jpegll"])
def test_real_series_make_valid_objects_of_every_kind(shared: Path, tmp_path: Path, name: str) -> None:
    zipfile.ZipFile(shared / "real-ct" / f"{name}.zip").extractall(tmp_path / "ct")
    files = [p for p in (tmp_path / "ct").rglob("*") if p.is_file()]
    case = case_from(files, files)
    analysis = analysis_of(case.pair.expiratory)
    paths = {str(dcmread(p, stop_before_pixels=True, force=True).SOPInstanceUID): p for p in files}
    kept = replace(analysis, lungs=np.where(np.arange(len(analysis.lungs))[:, None, None] % 70 == 60,
                                            analysis.lungs, 0).astype(np.uint8))  # fmt: skip
    made = all_of(kept, case, load_volume(case.pair.expiratory, paths))
    assert_map(made["maps"][0], kept, "V")
    assert_equal(made["seg"][0], kept)
    for kind, found in made.items():
        assert found, kind
        (tmp_path / "x.dcm").write_bytes(as_bytes(found[-1]))
        assert dciodvfy(tmp_path / "x.dcm") == "", kind
