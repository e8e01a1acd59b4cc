"""The report's trend: a patient's earlier results, as they were known when the job was created."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa
from made import analysis_of, case_of, thorax

from analysis.figures.trend import Visit
from analysis.measures.table import MEASURES
from dicom_node.jobs.priors import earlier, keep, trend
from dicom_node.results.report_pdf import build_pdf
from dicom_node.store.database import Database
from dicom_node.store.tables import job

NUMBERS = {name: 10.0 + n for n, name in enumerate(MEASURES)}


def result(
    database: Database, study: str, acquired: str, *, done: float, patient: str = "p", revision: int = 1,
    state: str = "DONE", parameters: str = "a", version: str = "1", **numbers: float,
) -> int:  # fmt: skip
    """A finished job and what was kept of it."""
    row = {
        "study_uid": study,
        "revision": revision,
        "pair": "",
        "parameters": parameters,
        "created": done - 60,
    }
    with database.writing() as connection:
        values = {**row, "fingerprint": f"{study} {revision}", "state": state, "since": done, "due_at": 0.0}
        key = connection.execute(sa.insert(job).values(**values)).inserted_primary_key
        assert key is not None
        number = key[0]
        if state == "DONE":
            keep(database, connection, number, patient, acquired, version, NUMBERS | numbers)
    return int(number)


def days(found: tuple[Visit, ...]) -> list[str]:
    return [str(visit.day) for visit in found]


def test_earlier_dates_of_the_patient_are_found_in_order_the_last_revision_of_each(
    database: Database,
) -> None:
    result(database, "1.2", "20250601120000.5", done=200.0, total_abnormal=1.0)
    result(database, "1.2", "20250601120000.5", done=300.0, revision=2, total_abnormal=2.0)
    result(database, "1.1", "20240501", done=400.0)
    result(database, "1.9", "20240502", done=100.0, patient="q")
    result(database, "1.8", "20270101", done=100.0)
    mine = result(database, "1.5", "20260101", done=1060.0)
    found = earlier(database, mine, "p", "20260101", "1")
    assert days(found) == ["2024-05-01", "2025-06-01"]
    assert found[1].measures["total_abnormal"] == 2.0
    assert all(visit.alike for visit in found)
    whole = trend(database, mine, "p", "20260101", "1", NUMBERS)
    assert days(whole) == ["2024-05-01", "2025-06-01", "2026-01-01"]


def test_a_retry_finds_what_the_first_attempt_found_though_more_is_known_by_then(database: Database) -> None:
    result(database, "1.1", "20240501", done=100.0)
    mine = result(database, "1.5", "20260101", done=1060.0, state="RUNNING")
    before = earlier(database, mine, "p", "20260101", "1")
    result(database, "1.2", "20250601", done=1001.0)
    result(database, "1.1", "20240501", done=1002.0, revision=2, total_abnormal=99.0)
    assert earlier(database, mine, "p", "20260101", "1") == before
    assert len(before) == 1


def test_other_settings_are_marked_and_unknown_patients_and_dates_have_no_trend(database: Database) -> None:
    result(database, "1.1", "20240501", done=100.0, parameters="b")
    result(database, "1.2", "20240601", done=100.0, version="0")
    result(database, "1.3", "", done=100.0)
    result(database, "1.4", "20240701", done=100.0, patient="")
    mine = result(database, "1.5", "20260101", done=1060.0)
    assert [visit.alike for visit in earlier(database, mine, "p", "20260101", "1")] == [False, False]
    for patient, acquired in (("", "20260101"), ("p", ""), ("p", "unknown"), ("nobody", "20260101")):
        assert trend(database, mine, patient, acquired, "1", NUMBERS) == ()


def test_the_pdf_gets_a_page_of_trend_and_the_same_bytes_again(tmp_path: Path) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is not installed")
    case = case_of(tmp_path, thorax(), thorax(-880))
    analysis = analysis_of(case.pair.expiratory)
    visits = (
        Visit(date(2024, 5, 1), NUMBERS | {"total_abnormal": 31.4, "mean_v": float("nan")}, alike=False),
        Visit(date(2026, 1, 1), NUMBERS | {"total_abnormal": 27.1}),
    )
    case = replace(case, trend=visits)
    ds = build_pdf(analysis, case)
    assert ds.EncapsulatedDocument == build_pdf(analysis, case).EncapsulatedDocument
    (tmp_path / "r.pdf").write_bytes(ds.EncapsulatedDocument)
    text = subprocess.run(
        ["pdftotext", "-layout", str(tmp_path / "r.pdf"), "-"], capture_output=True, check=True
    )
    pages = text.stdout.decode().rstrip("\f").split("\f")
    assert len(pages) == 4
    for words in (
        "2024-05-01 *",
        "31.4",
        "2026-01-01",
        "27.1",
        "page 4 of 4",
        "another version of the software",
    ):
        assert words in pages[3]
    assert "Trend" not in pages[0] + pages[1] + pages[2]
