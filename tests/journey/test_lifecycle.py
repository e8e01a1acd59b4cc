"""What comes after a result: a trend, an export, a comparison, a case without identity that is analysed again."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import nibabel
import pytest
from nibabel.nifti1 import Nifti1Image
from peers import dcmtk, free_port
from pydicom import dcmread
from serve import COMMAND, Serve

from analysis.truth.phantom import ThoraxShape, thorax_phantom
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.results.record import NAME, read_record

ANALYSIS = "grid_mm = 4\naccept_failed_checks = true"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serve]:
    node = Serve(tmp_path, free_port(), analysis=ANALYSIS)
    node.start()
    yield node
    node.kill()


def run(node: Serve, *arguments: str) -> str:
    command = [*COMMAND, *arguments, "-c", str(node.config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_dates_of_a_patient_make_a_trend_a_comparison_and_a_case_without_identity(
    node: Serve, tmp_path: Path
) -> None:
    def done(number: int) -> bool:
        return node.jobs().count("DONE") == number

    shape = ThoraxShape(in_plane_mm=4.0, slice_mm=5)
    for year, truth in ((2025, thorax_phantom((), shape=shape)), (2026, thorax_phantom(shape=shape))):
        for number, (name, volume) in enumerate((("Insp", truth.inspiratory), ("Exp", truth.expiratory)), 1):
            scan = Scan(
                f"Thorax {name}", f"study {year}", number,
                patient_id="PAT-4711", patient_name="Doe^Jane", acquired=datetime(year, 3, 4),
            )  # fmt: skip
            write_ct_series(volume, tmp_path / str(year) / name, scan)
        dcmtk(
            "storescu", "+sd", "+r", "-aec", "VQNODE", "127.0.0.1", str(node.port), str(tmp_path / str(year))
        )
        node.until(partial(done, year - 2024), 1200)
    results = tmp_path / "dicom-node-data" / "results"

    pages = [_pages(next((results / job).glob("*-pdf.dcm")), tmp_path) for job in "12"]
    assert [len(document) for document in pages] == [3, 4]
    assert "2025-03-04" in pages[1][3]

    run(node, "export", "2", str(tmp_path / "nifti"))
    v = nibabel.load(tmp_path / "nifti" / "V.nii.gz")
    assert isinstance(v, Nifti1Image)
    assert v.ndim == 3

    run(node, "compare", "1", "2", str(tmp_path / "change"))
    lines = csv.DictReader((tmp_path / "change" / "transitions.csv").open())
    rows = {(line["earlier"], line["later"]): float(line["percent"]) for line in lines}
    new = rows["normal", "dead_space"] + rows["normal", "shunt"] + rows["normal", "matched_defect"]
    gone = sum(rows[c, "normal"] for c in ("dead_space", "shunt", "matched_defect"))
    assert new > 3 * gone

    run(node, "deidentify", "2", str(tmp_path / "case"))
    for path in (tmp_path / "case").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [word for word in (b"PAT-4711", b"Jane", b"20260304") if word in content], path
    run(node, "run", str(tmp_path / "case" / "images"), str(tmp_path / "again"))
    ours = json.loads((tmp_path / "again" / "measures.json").read_text())["measures"]
    theirs = read_record(results / "2" / NAME).analysis.measures
    for region, values in theirs.items():
        mine = {name: math.nan if m["value"] is None else m["value"] for name, m in ours[region].items()}
        assert mine == pytest.approx(values, rel=1e-3, abs=1e-3, nan_ok=True)
    assert "4711" not in node.log.read_text()


def _pages(path: Path, folder: Path) -> list[str]:
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is not installed")
    (folder / "r.pdf").write_bytes(dcmread(path).EncapsulatedDocument)
    text = subprocess.run(
        ["pdftotext", "-layout", str(folder / "r.pdf"), "-"], capture_output=True, check=True
    )
    return text.stdout.decode().rstrip("\f").split("\f")
