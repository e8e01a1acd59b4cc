"""`dicom-node compare`: files a researcher reads, of two results of one patient in the right order."""

from __future__ import annotations

import csv
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
from analysis.vq.classes import VQClass
from dicom_node.errors import Rejected
from dicom_node.research import compare as comparing
from dicom_node.research.compare import compare_results
from dicom_node.results.files import record_of
from dicom_node.results.record import Record


@pytest.fixture
def earlier(tmp_path: Path) -> Record:
    case = case_of(tmp_path / "ct", thorax(), thorax(-880))
    return replace(record_of(analysis_of(case.pair.expiratory), case), acquired="20250102030405")


@pytest.fixture
def known(earlier: Record, monkeypatch: pytest.MonkeyPatch) -> Change:
    """A change that needs no registration: dead space became normal, total abnormal fell by 7."""
    a = earlier.analysis
    measures = {r: {m: (a.measures[r][m], a.measures[r][m] - 7.0) for m in MEASURES} for r in REGIONS}
    later = np.where(a.classes == VQClass.DEAD_SPACE, VQClass.NORMAL, a.classes).astype(np.uint8)
    maps = {name: a.maps["V"] for name in ("V", "Q", "V_n", "Q_n")}
    change = Change(
        a.grid, a.maps["ct_exp"], maps, a.classes, later, a.displacement, measures, a.findings, a.registration
    )
    monkeypatch.setattr(comparing, "compare", lambda earlier, later, progress: change)
    return change


def test_tables_hold_both_dates_the_change_and_its_unit(
    earlier: Record, known: Change, tmp_path: Path
) -> None:
    later = replace(earlier, acquired="20260314", inspiration="2.25.1", expiration="2.25.2")
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
    dead_ml = (earlier.analysis.classes == VQClass.DEAD_SPACE).sum() * earlier.analysis.grid.voxel_ml
    assert moves["dead_space", "normal"] == pytest.approx(dead_ml, rel=1e-3)
    assert moves["dead_space", "dead_space"] == 0
    table = json.loads(files["comparison.json"].read_text())
    assert (table["earlier"]["acquired"], table["later"]["acquired"]) == ("2025-01-02", "2026-03-14")
    image = nibabel.load(files["classes_later.nii.gz"])
    assert isinstance(image, Nifti1Image)
    assert (np.asarray(image.dataobj).transpose() == known.later).all()


@pytest.mark.usefixtures("known")
def test_two_patients_and_exchanged_dates_are_refused(earlier: Record, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="not of the same patient"):
        compare_results(earlier, replace(earlier, patient="x"), tmp_path, lambda stage, share: None)
    with pytest.raises(
        Rejected, match="the earlier result was acquired 2025-01-02, the later one 2024-01-01"
    ):
        compare_results(
            earlier,
            replace(earlier, acquired="20240101", expiration="2.25.2"),
            tmp_path,
            lambda stage, share: None,
        )


@pytest.mark.usefixtures("known")
def test_a_result_is_not_compared_with_itself(earlier: Record, tmp_path: Path) -> None:
    for again in (earlier, replace(earlier, acquired="20260314")):
        with pytest.raises(Rejected, match="of the same images"):
            compare_results(earlier, again, tmp_path / "out", lambda stage, share: None)
    assert not (tmp_path / "out").exists()
