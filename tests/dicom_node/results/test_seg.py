"""The Segmentation is the analysis, voxel by voxel at its place, and valid DICOM."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_objects import assert_equal, dciodvfy, stored
from made import ORIGIN, SHAPE, analysis_of, case_from, case_of, enhanced, thorax
from pydicom import Dataset, dcmread

from analysis.figures.colours import CLASS_RGB
from analysis.pipeline.pipeline import Analysis, Parameters
from analysis.volume import Grid, Volume
from analysis.vq.classes import VQClass
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.results.context import Case
from dicom_node.results.labelmap import build_labelmap
from dicom_node.results.seg import build_segmentation

EXP, INSP = thorax(-700), thorax(-850)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(tmp_path_factory.mktemp("pair"), EXP, INSP, PatientName="Müller^Jürgen=山田^太郎")


def test_what_is_read_back_is_the_analysis(case: Case) -> None:
    analysis = analysis_of(case.pair.expiratory)
    assert_equal(stored(build_segmentation(analysis, case)), analysis)


@pytest.mark.parametrize(
    ("row", "column"),
    [((-1, 0, 0), (0, -1, 0)), ((-1, 0, 0), (0, 1, 0)), ((0, 1, 0), (0, 0, -1)),
     ((0.8, 0.6, 0), (-0.6, 0.8, 0)), ((0, 1, 0), (-1, 0, 0)), ((0.96, 0, -0.28), (0.168, 0.8, 0.576))],
    ids=["prone", "feet first", "sagittal", "turned", "decubitus", "doubly oblique"],
)  # fmt: skip
def test_every_orientation_is_read_back(tmp_path: Path, row: Any, column: Any) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack(
        [np.cross(row, column) * 2.5, np.multiply(column, 4.0), np.multiply(row, 3.75)]
    )
    affine[:3, 3] = ORIGIN
    case = case_of(tmp_path, Volume(EXP.array, Grid(SHAPE, affine)), INSP)
    analysis = analysis_of(case.pair.expiratory)
    assert_equal(stored(build_segmentation(analysis, case)), analysis)
    assert_labels(stored(build_labelmap(analysis, case)), analysis)


def assert_labels(ds: Dataset, analysis: Analysis) -> None:
    grid = analysis.expiratory
    labels = np.zeros(grid.shape, dtype=np.uint8)
    for frame, groups in zip(ds.pixel_array, ds.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array([groups.PlanePositionSequence[0].ImagePositionPatient], dtype=float)
        labels[round(grid.indices(position)[0][0])] = frame
    rest = np.where(analysis.lungs > 0, analysis.lungs + 4, 0)
    np.testing.assert_array_equal(labels, np.where(analysis.classes > 0, analysis.classes, rest))


def test_a_label_map_is_valid_dicom(case: Case, tmp_path: Path) -> None:
    build_labelmap(analysis_of(case.pair.expiratory), case).save_as(tmp_path / "seg.dcm")
    assert dciodvfy(tmp_path / "seg.dcm") == ""


@pytest.mark.parametrize(
    ("rows", "columns", "kind"), [(41, 47, "FRACTIONAL"), (40, 47, "BINARY"), (44, 46, "BINARY")]
)
def test_no_frame_begins_within_a_byte(tmp_path: Path, rows: int, columns: int, kind: str) -> None:
    """Viewers misplace such frames: where they do not fill whole bytes, a pixel is a byte."""
    case = case_of(tmp_path, thorax(-700, (51, rows, columns)), INSP)
    analysis = analysis_of(case.pair.expiratory)
    ds = stored(build_segmentation(analysis, case))
    assert ds.SegmentationType == kind
    assert rows * columns * ds.BitsAllocated % 8 == 0
    assert_equal(ds, analysis)
    ds.save_as(tmp_path / "seg.dcm")
    assert dciodvfy(tmp_path / "seg.dcm") == ""


def test_an_enhanced_ct_is_referenced_by_its_frames(tmp_path: Path) -> None:
    inspiratory = write_ct_series(INSP, tmp_path / "i", Scan("Insp", "s", 3))
    case = case_from([enhanced(tmp_path)], inspiratory)
    analysis = analysis_of(case.pair.expiratory)
    ds = stored(build_segmentation(analysis, case))
    assert_equal(ds, analysis)
    for groups in ds.PerFrameFunctionalGroupsSequence:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        z = groups.PlanePositionSequence[0].ImagePositionPatient[2]
        assert source.ReferencedFrameNumber == 1 + round((z - ORIGIN[2]) / 2.5)


def test_highdicom_reads_the_same(case: Case) -> None:
    highdicom = pytest.importorskip("highdicom")
    analysis = analysis_of(case.pair.expiratory)
    ds = highdicom.seg.Segmentation.from_dataset(stored(build_segmentation(analysis, case)))
    uids = list(case.pair.expiratory.sop_instance_uids)
    pixels = ds.get_pixels_by_source_instance(uids, segment_numbers=[1, 2, 3, 4], combine_segments=True)
    np.testing.assert_array_equal(pixels, analysis.classes)


@pytest.mark.parametrize("missing", [(VQClass.SHUNT,), tuple(VQClass)[2:], tuple(VQClass)[1:]])
def test_a_class_without_voxels_keeps_its_segment(case: Case, missing: tuple[VQClass, ...]) -> None:
    analysis = analysis_of(case.pair.expiratory, missing=missing)
    ds = stored(build_segmentation(analysis, case))
    assert_equal(ds, analysis)
    assert len(ds.SegmentSequence) == 6
    assert ds.NumberOfFrames == 6 * SHAPE[0]


def test_every_frame_names_its_ct_slice(case: Case) -> None:
    ds = build_segmentation(analysis_of(case.pair.expiratory), case)
    z = {s.sop_instance_uid: s.position[2] for s in case.pair.expiratory.slices}
    for groups in ds.PerFrameFunctionalGroupsSequence:
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        assert position[2] == pytest.approx(z[source.ReferencedSOPInstanceUID])
    (series,) = ds.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == case.pair.expiratory.series_instance_uid
    assert len(series.ReferencedInstanceSequence) == SHAPE[0]


def test_the_patient_and_the_study_are_the_cts(case: Case) -> None:
    ds = stored(build_segmentation(analysis_of(case.pair.expiratory), case))
    source = case.expiratory[0]
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName",
                    "SpecificCharacterSet",
                    "StudyDate", "StudyID", "AccessionNumber"):  # fmt: skip
        assert ds.get(keyword) == source.get(keyword), keyword
    assert str(ds.PatientName) == "Müller^Jürgen=山田^太郎"


def test_segments_are_named_coded_and_coloured(case: Case) -> None:
    ds = build_segmentation(analysis_of(case.pair.expiratory), case)
    assert [s.SegmentLabel for s in ds.SegmentSequence] == [
        "Normal", "Dead space", "Shunt", "Matched defect", "Right lung", "Left lung",
    ]  # fmt: skip
    right = ds.SegmentSequence[4].SegmentedPropertyTypeCodeSequence[0]
    assert (right.CodeValue, right.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue) == (
        "39607008",
        "24028007",
    )
    assert {s.SegmentAlgorithmName for s in ds.SegmentSequence} == {"VQ CT"}
    (scheme,) = ds.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99VQ"
    colours = {tuple(s.RecommendedDisplayCIELabValue) for s in ds.SegmentSequence}
    assert len(colours) == 6
    assert len(set(CLASS_RGB.values())) == 4
    assert "research use" in ds.SeriesDescription
    assert len(ds.SeriesDescription) <= 64


def test_a_retry_makes_the_same_bytes(case: Case) -> None:
    def made(analysis: Analysis, c: Case) -> bytes:
        buffer = BytesIO()
        build_segmentation(analysis, c).save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    analysis = analysis_of(case.pair.expiratory)
    first = made(analysis, case)
    assert made(analysis, case) == first
    uid = build_segmentation(analysis, case).SOPInstanceUID
    others = (
        (analysis, replace(case, fingerprint="revision 2")),
        (replace(analysis, parameters=Parameters(low=0.5)), case),
        (replace(analysis, version="9"), case),
    )
    assert len({uid, *(build_segmentation(*other).SOPInstanceUID for other in others)}) == 4


def test_dciodvfy_finds_no_error(case: Case, tmp_path: Path) -> None:
    build_segmentation(analysis_of(case.pair.expiratory), case).save_as(tmp_path / "seg.dcm")
    assert dciodvfy(tmp_path / "seg.dcm") == ""


def test_dciodvfy_finds_no_error_in_the_ct_written(tmp_path: Path) -> None:
    for path in write_ct_series(thorax(), tmp_path, Scan("Insp", "s"))[::25]:
        assert dciodvfy(path) == ""


@pytest.mark.parametrize("name", ["popi-00-philips", "normal001-siemens-jpegll"])
def test_real_series_make_valid_segmentations(shared: Path, tmp_path: Path, name: str) -> None:
    zipfile.ZipFile(shared / "real-ct" / f"{name}.zip").extractall(tmp_path / "ct")
    files = [p for p in (tmp_path / "ct").rglob("*") if p.is_file()]
    case = case_from(files, files)
    analysis = analysis_of(case.pair.expiratory)
    build_segmentation(analysis, case).save_as(tmp_path / "seg.dcm")
    assert_equal(dcmread(tmp_path / "seg.dcm"), analysis)
    assert dciodvfy(tmp_path / "seg.dcm") == ""
