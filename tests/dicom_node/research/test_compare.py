"""`dicom-node compare`: files a researcher reads, of two results of one patient in the right order."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from made import analysis_of, case_of, thorax
from nibabel.nifti1 import Nifti1Image

from analysis.anatomy.regions import REGIONS
from analysis.followup.longitudinal import Change
from analysis.measures.table import MEASURES
from analysis.pipeline.saved import REST
from analysis.vq.classes import VQClass
from dicom_node.errors import Rejected
from dicom_node.model import Person
from dicom_node.research import compare as comparing
from dicom_node.research.compare import Kept, compare_results, read_kept
from dicom_node.results.files import record_of, write
from dicom_node.results.kinds import build_objects
from dicom_node.results.record import NAME


@pytest.fixture
def earlier(tmp_path: Path) -> Kept:
    case = case_of(tmp_path / "ct", thorax(), thorax(-880))
    record = record_of(analysis_of(case.pair.expiratory), case)
    return Kept(replace(record, acquired="20250102030405"), Person("id"))


def at(kept: Kept, acquired: str) -> Kept:
    """The same result, as if of other images of that day."""
    insp, exp = f"2.25.{acquired}.1", f"2.25.{acquired}.2"
    return replace(kept, record=replace(kept.record, acquired=acquired, inspiration=insp, expiration=exp))


@pytest.fixture
def known(earlier: Kept, monkeypatch: pytest.MonkeyPatch) -> Change:
    """A change that needs no registration: dead space became normal, total abnormal fell by 7."""
    a = earlier.record.analysis
    measures = {r: {m: (a.measures[r][m], a.measures[r][m] - 7.0) for m in MEASURES} for r in REGIONS}
    later = np.where(a.classes == VQClass.DEAD_SPACE, VQClass.NORMAL, a.classes).astype(np.uint8)
    maps = {name: a.maps["V"] for name in ("V", "Q", "V_n", "Q_n")}
    change = Change(
        a.grid, a.maps["ct_exp"], maps, a.classes, later, a.displacement, measures, a.findings, a.registration
    )
    monkeypatch.setattr(comparing, "compare", lambda earlier, later, progress: change)
    return change


def test_tables_hold_both_dates_the_change_and_its_unit(earlier: Kept, known: Change, tmp_path: Path) -> None:
    later = at(earlier, "20260314")
    _, paths = compare_results(earlier, later, tmp_path / "out", lambda stage, share: None)
    files = {path.name: path for path in paths}
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(files)
    rows = {
        (r["region"], r["measure"]): r for r in csv.DictReader(files["changes.csv"].open(encoding="utf-8"))
    }
    assert len(rows) == len(REGIONS) * len(MEASURES)
    assert float(rows["right", "total_abnormal"]["change"]) == pytest.approx(-7.0)
    assert rows["right", "total_abnormal"]["unit"] == "%"
    assert rows["left_upper", "median_vq"]["earlier"] == ""
    moves = {
        (r["earlier"], r["later"]): float(r["ml"]) for r in csv.DictReader(files["transitions.csv"].open())
    }
    dead_ml = (known.earlier == VQClass.DEAD_SPACE).sum() * known.grid.voxel_ml
    assert moves["dead_space", "normal"] == pytest.approx(dead_ml, rel=1e-3)
    assert moves["dead_space", "dead_space"] == 0
    table = json.loads(files["comparison.json"].read_text())
    assert (table["earlier"]["acquired"], table["later"]["acquired"]) == ("2025-01-02", "2026-03-14")
    image = nibabel.load(files["classes_later.nii.gz"])
    assert isinstance(image, Nifti1Image)
    assert (np.asarray(image.dataobj).transpose() == known.later).all()


@pytest.mark.usefixtures("known")
def test_two_patients_and_exchanged_dates_are_refused(earlier: Kept, tmp_path: Path) -> None:
    other = replace(earlier, person=Person("another"))
    with pytest.raises(Rejected, match=r"not of the same patient: Patient ID \(0010,0020\) differs"):
        compare_results(earlier, other, tmp_path, lambda stage, share: None)
    with pytest.raises(
        Rejected, match="the earlier result was acquired 2025-01-02, the later one 2024-01-01"
    ):
        compare_results(earlier, at(earlier, "20240101"), tmp_path, lambda stage, share: None)


def test_whose_a_result_is_say_the_objects_beside_it_and_not_the_record(tmp_path: Path) -> None:
    def kept(name: str, **attributes: object) -> Kept:
        case = case_of(tmp_path / name / "ct", thorax(), thorax(-880), **attributes)
        analysis = analysis_of(case.pair.expiratory)
        objects = build_objects(analysis, case, lambda: thorax(), ["sr"])
        write(record_of(analysis, case), objects, tmp_path / name / "out")
        return read_kept(tmp_path / name / "out" / NAME)

    first = kept("a", PatientID="77", PatientName="Miller^A", PatientBirthDate="19500102")
    married = kept("b", PatientID="77", PatientName="Smith^A", PatientBirthDate="19500102")
    assert first.person == married.person
    assert kept("c", PatientID="78", PatientBirthDate="19500102").person != first.person
    assert hashlib.sha256(b"77").hexdigest() not in rest_of(tmp_path / "a" / "out" / NAME)
    for path in (tmp_path / "a" / "out").glob("*.dcm"):
        path.unlink()
    with pytest.raises(Rejected, match="holds no DICOM object that says whose result it is"):
        read_kept(tmp_path / "a" / "out" / NAME)


def rest_of(record: Path) -> str:
    """What a record holds besides its arrays."""
    with np.load(record, allow_pickle=False) as stored:
        return str(stored[REST])


@pytest.mark.usefixtures("known")
def test_a_result_is_not_compared_with_itself(earlier: Kept, tmp_path: Path) -> None:
    same = replace(earlier, record=replace(earlier.record, acquired="20260314"))
    for again in (earlier, same):
        with pytest.raises(Rejected, match="of the same images"):
            compare_results(earlier, again, tmp_path / "out", lambda stage, share: None)
    assert not (tmp_path / "out").exists()
