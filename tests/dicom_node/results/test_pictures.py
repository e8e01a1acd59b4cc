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
from pydicom import Dataset, dcmread

from analysis.anatomy.regions import REGIONS
from analysis.figures.captures import OPACITY, WINDOW, lung_slices, worst_slices
from analysis.figures.colours import CLASS_RGB, map_rgb, top_of
from analysis.figures.report import A4, report_pdf
from analysis.limits_of_use import RESEARCH_USE
from analysis.measures.findings import Finding, Verdict
from analysis.measures.table import FIRMNESS, MEASURES
from analysis.pipeline.pipeline import Analysis
from analysis.volume import Grid, Volume
from analysis.vq.classes import VQClass
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.dicom.pixels import load_volume
from dicom_node.results import parametric_map
from dicom_node.results.context import Case
from dicom_node.results.kinds import KINDS, OBJECT_KINDS, build_objects
from dicom_node.results.maps import MAPS
from dicom_node.results.parametric_map import build_maps

EXP, INSP = thorax(-700, (52, 160, 256), (2.5, 1.5, 1.25)), thorax(-850)
FOOTER = f"{RESEARCH_USE} vq-dicom-node {version('vq-dicom-node')} 0.1.0 page 1 of 2".split()
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
    grey = np.clip((hu[k] - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1) * 255
    out = np.repeat(grey[..., None], 3, axis=2)
    for c, rgb in CLASS_RGB.items():
        where = analysis.classes[k] == c
        out[where] = OPACITY * np.array(rgb) + (1 - OPACITY) * out[where]
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
    top = top_of(analysis.maps["V"])
    ds = captures(made, 9712)[20]
    k = int(ds.InstanceNumber) - 1
    where = analysis.classes[k] == VQClass.NORMAL
    grey = np.clip((EXP.array[k] - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1) * 255
    colour = map_rgb(analysis.maps["V"][k], "V", top)
    expected = OPACITY * colour + (1 - OPACITY) * grey[..., None]
    error = np.abs(ds.pixel_array[: where.shape[0]].astype(float) - expected).max(axis=2)
    assert np.percentile(error[where], 90) < 12


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
        error = np.abs(ds.pixel_array[: SHAPE[1]].astype(float) - expected).mean()
        assert error < 12, k


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
    assert len(pages) == 2
    assert all("Müller, Jürgen" in page and "Research use only" in page for page in pages)
    assert f"{analysis.measures['lungs']['dead_space']:.1f}" in pages[0]
    assert all(measure.meaning in pages[1] for name, measure in MEASURES.items() if name not in FIRMNESS)
    row = analysis.measures["lungs"]
    assert f"{row['shunt']:.1f} ± {row['shunt_sd']:.1f} ({row['shunt_50']:.1f}" in pages[1]
    text = " ".join(pages[1].split())
    assert all(finding.sentence in text for finding in analysis.findings)
    assert "surrogate of perfusion" in pages[1]


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
    document = report_pdf(replace(analysis, findings=findings), [("Patient", "Doe")], datetime(2026, 1, 1))
    found = words_of(document, tmp_path)
    width = A4[0] * 72
    assert sum(text == "Sentence" for *_, text in found) == len(findings)
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
