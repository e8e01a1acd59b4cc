"""Results for researchers: NIfTI where DICOM says, tables with units; the record they come from."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import sqlalchemy as sa
from made import analysis_of, case_of, thorax
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray
from pydicom import dcmread

from analysis.anatomy.regions import REGIONS
from analysis.measures.table import MEASURES
from analysis.pipeline.pipeline import Analysis
from analysis.pipeline.saved import REST
from analysis.volume import Grid, Volume
from dicom_node.errors import Rejected
from dicom_node.jobs.results import find
from dicom_node.research.export import export
from dicom_node.results.files import record_of
from dicom_node.results.maps import MAPS
from dicom_node.results.record import NAME, Record, read_record, without_patient
from dicom_node.settings.layout import Layout
from dicom_node.store.database import Database
from dicom_node.store.tables import job
from dicom_node.strict_json import encode


def oblique(degrees: float) -> NDArray[np.float64]:
    a = np.radians(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    both: NDArray[np.float64] = about_z @ about_x
    return both


TURNS = {
    "axial": np.eye(3),
    "oblique": oblique(20),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "prone": np.diag([-1.0, -1.0, 1.0]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}


def turned(volume: Volume, turn: np.ndarray) -> Volume:
    affine = volume.grid.affine.copy()
    affine[:3] = turn @ affine[:3]
    return Volume(volume.array, Grid(volume.grid.shape, affine))


@pytest.fixture
def made(tmp_path: Path) -> Record:
    case = case_of(tmp_path / "ct", thorax(), thorax(-880), PatientBirthDate="19500102")
    return record_of(analysis_of(case.pair.expiratory, work=2), case)


def read(path: Path) -> Nifti1Image:
    image = nibabel.load(path)
    assert isinstance(image, Nifti1Image)
    return image


def points(image: Nifti1Image, kji: NDArray[Any]) -> NDArray[np.float64]:
    """RAS mm of voxels (k, j, i)."""
    out: NDArray[np.float64] = apply_affine(image.affine, kji[:, ::-1])  # type: ignore[no-untyped-call]  # nibabel's
    return out


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_every_voxel_of_a_nifti_lies_where_its_dicom_slice_says(tmp_path: Path, turn: np.ndarray) -> None:
    case = case_of(tmp_path / "ct", turned(thorax(), turn), turned(thorax(-880), turn))
    analysis = analysis_of(case.pair.expiratory, work=2)
    analysis.displacement[..., 0], analysis.displacement[..., 2] = 3.0, -7.0
    export(record_of(analysis, case), tmp_path / "out")

    slices = [dcmread(p) for p in sorted((tmp_path / "ct" / "e").iterdir())]
    slices.sort(key=lambda ds: ds.InstanceNumber)
    kji = np.array([[0, 0, 0], [3, 7, 11], [51, 39, 47], [20, 39, 0]])
    lps = []
    for k, j, i in kji:
        row, column = np.reshape([float(v) for v in slices[k].ImageOrientationPatient], (2, 3))
        down, along = (float(v) for v in slices[k].PixelSpacing)
        origin = np.array([float(v) for v in slices[k].ImagePositionPatient])
        lps.append(origin + i * along * row + j * down * column)
    classes = read(tmp_path / "out" / "classes.nii.gz")
    assert np.allclose(points(classes, kji), np.array(lps) * [-1, -1, 1], atol=1e-3)
    assert (np.asarray(classes.dataobj).transpose() == analysis.classes).all()

    v = read(tmp_path / "out" / "V.nii.gz")
    assert np.allclose(
        points(v, np.array([[5, 6, 7]])), points(classes, np.array([[10.5, 12.5, 14.5]])), atol=1e-3
    )
    assert np.array_equal(np.asarray(v.dataobj).transpose(), analysis.maps["V"], equal_nan=True)
    assert v.header.get_xyzt_units()[0] == "mm"  # type: ignore[no-untyped-call]  # nibabel's
    assert np.allclose(v.get_qform(), v.get_sform(), atol=1e-3)  # type: ignore[no-untyped-call]  # nibabel's

    u = read(tmp_path / "out" / "displacement.nii.gz")
    assert np.asarray(u.dataobj).shape == (*analysis.grid.shape[::-1], 1, 3)
    assert np.asarray(u.dataobj)[2, 3, 4, 0].tolist() == [-3.0, 0.0, -7.0]  # 3 mm to the left is -3 in RAS
    assert b"RAS" in u.header["descrip"].tobytes()


def test_tables_hold_every_measure_of_every_region_with_its_unit(made: Record, tmp_path: Path) -> None:
    files = {path.name: path for path in export(made, tmp_path / "out")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(files)
    rows = list(csv.DictReader(files["measures.csv"].open(encoding="utf-8")))
    assert len(rows) == len(REGIONS) * len(MEASURES)
    found = {(row["region"], row["measure"]): row for row in rows}
    assert float(found["lungs", "mean_q"]["value"]) == made.analysis.measures["lungs"]["mean_q"]
    assert found["lungs", "mean_q"]["unit"] == "g/ml"
    assert found["left_upper", "median_vq"]["value"] == ""
    table = json.loads(files["measures.json"].read_text(), parse_constant=pytest.fail)
    assert table["measures"]["right"]["mld_exp"]["unit"] == "[hnsf'U]"
    assert table["parameters"]["low"] == 0.6
    assert table["quality"][1]["sentence"] == "The kernel B70f is sharp."
    described = json.loads(files["images.json"].read_text(), parse_constant=pytest.fail)
    assert set(described["images"]) == {name for name in files if name.endswith(".nii.gz")}
    assert set(MAPS) >= set(made.analysis.maps)


def test_a_record_brings_back_all_of_a_result_and_is_the_same_bytes_again(
    made: Record, tmp_path: Path
) -> None:
    path = tmp_path / NAME
    path.write_bytes(made.dump())
    again = read_record(path)
    assert again.dump() == made.dump()
    for field in fields(Analysis):
        ours, theirs = (getattr(r.analysis, field.name) for r in (made, again))
        if isinstance(ours, np.ndarray):
            assert np.array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
        elif isinstance(ours, Grid):
            assert ours.shape == theirs.shape
            assert np.array_equal(ours.affine, theirs.affine)
        elif field.name == "maps":
            assert all(np.array_equal(ours[n], theirs[n], equal_nan=True) for n in ours)
        elif field.name != "measures":
            assert ours == theirs
    assert again.analysis.measures["right"] == made.analysis.measures["right"]
    assert (again.expiration, again.acquired) == (made.expiration, made.acquired)


def test_a_patient_is_known_again_by_id_and_birth_date_and_not_by_name(tmp_path: Path) -> None:
    def patient(**attributes: object) -> str:
        n = len(list(tmp_path.iterdir()))
        return case_of(tmp_path / str(n), thorax(), thorax(), **attributes).patient

    first = patient(PatientID="77", PatientName="A", PatientBirthDate="19500102")
    assert first == patient(PatientID="77 ", PatientName="B", PatientBirthDate="19500102")
    assert first != patient(PatientID="77", PatientName="A", PatientBirthDate="19600102")
    assert first != patient(PatientID="77", PatientBirthDate="19500102", IssuerOfPatientID="other")
    assert patient(PatientID="") == ""


def test_damaged_and_foreign_records_and_jobs_without_a_result_are_named(
    made: Record, tmp_path: Path, database: Database
) -> None:
    path = tmp_path / NAME
    with pytest.raises(Rejected, match=r"analysis\.npz is not there"):
        read_record(path)
    whole = made.dump()
    changed = (whole[:at] + b"\xff" * 50 + whole[at + 50 :] for at in range(150, 450, 25))
    for broken in (b"", whole[: len(whole) // 2], *changed):
        path.write_bytes(broken)
        with pytest.raises(Rejected, match=r"analysis\.npz is not a record that this version can read"):
            read_record(path)
    url = database.engine.url.render_as_string(hide_password=False)
    row = {
        "study_uid": "1.2",
        "fingerprint": "f",
        "pair": "",
        "parameters": "",
        "created": 0.0,
        "revision": 1,
    }
    with database.writing() as connection:
        connection.execute(sa.insert(job).values(**row, state="FAILED", since=0.0, due_at=0.0))
    with pytest.raises(Rejected, match="job 1 is FAILED"):
        find("1", Layout(tmp_path), url)
    with pytest.raises(Rejected, match="there is no job 2"):
        find("2", Layout(tmp_path), url)
    with database.writing() as connection:
        connection.execute(sa.update(job).values(state="DONE"))
    assert find("1", Layout(tmp_path), url) == tmp_path / "results" / "1" / NAME
    assert find("some/folder", Layout(tmp_path), "") == Path("some/folder") / NAME


def test_the_digest_that_older_versions_kept_of_a_patient_is_taken_out_and_nothing_else(
    made: Record, tmp_path: Path
) -> None:
    whole, digest = made.dump(), "5" * 64
    path = tmp_path / NAME
    with np.load(BytesIO(whole)) as stored:
        arrays = {name: stored[name] for name in stored.files}
    own = {**json.loads(str(arrays.pop(REST))), "patient": digest}
    buffer = BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{REST: np.array(encode(own))}, **arrays)
    assert read_again(path, buffer.getvalue()) == whole  # an older record can still be read
    stripped = without_patient(buffer.getvalue())
    assert read_again(path, stripped) == whole
    with zipfile.ZipFile(path) as entries:
        assert entries.testzip() is None
        assert digest not in str(np.load(entries.open(f"{REST}.npy")))
    old = zipfile.ZipFile(buffer).getinfo(f"{REST}.npy")
    inside = old.header_offset + 80, old.header_offset + 30 + old.compress_size
    assert buffer.getvalue()[slice(*inside)] not in stripped  # not even where nobody looks
    assert without_patient(stripped) == stripped
    with pytest.raises(Rejected, match="no record of a result"):
        without_patient(stripped[:1000])


def read_again(path: Path, content: bytes) -> bytes:
    path.write_bytes(content)
    return read_record(path).dump()
