"""The report of a cohort from case folders and a table of DLCO: joined, left out, refused by line."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import analysis_of, case_of, thorax
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from analysis.cohort.gas_transfer import GLI, SI
from analysis.figures.colours import CLASS_RGB
from analysis.measures.table import MEASURES
from analysis.pipeline.saved import REST
from dicom_node.errors import Rejected
from dicom_node.research.cohort import read_cohort
from dicom_node.research.cohort_figure import write_figure
from dicom_node.research.cohort_report import write_report
from dicom_node.research.cohort_table import read_reference
from dicom_node.results.files import record_of
from dicom_node.results.measures_file import SCHEMA, read_measured
from dicom_node.results.record import NAME
from dicom_node.strict_json import write_json


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Twelve cases whose total abnormal goes with DLCO."""
    rng, others = np.random.default_rng(2), np.random.default_rng(3)
    folder = tmp_path / "results"
    rows = ["case,DLCO,Group"]
    for n in range(12):
        case = folder / f"c{n:02d}"
        case.mkdir(parents=True)
        measures = {name: float(others.uniform(1, 50)) for name in MEASURES} | {
            "total_abnormal": 10.0 + 4 * n
        }
        measures["h_q"] = float("nan") if n == 3 else measures["h_q"]
        values = {name: {"value": value, "unit": "1"} for name, value in measures.items()}
        content = {
            "software": "vq-dicom-node 1",
            "parameters": {},
            "quality": [],
            "measures": {"lungs": values},
        }
        write_json(case / "measures.json", SCHEMA, content)
        rows.append(f"c{n:02d},{100 - 4 * n + rng.normal(0, 5):.1f},{'PE' if n < 5 else 'ILD'}")
    (tmp_path / "dlco.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_cohort_gives_tables_figures_and_reports(results: Path, tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1200), "black").save(results / "c00" / "overview.png")
    files = {
        p.name: p for p in write_report(read_cohort(results, tmp_path / "dlco.csv"), tmp_path / "report")
    }
    rows = list(csv.reader(files["correlations.csv"].open(encoding="utf-8")))
    assert rows[1][:2] == ["Total abnormal, fraction of classified volume, %", "12"]
    assert float(rows[1][2]) < -0.9
    assert rows[7][1] == "11"  # one case has no H of Q
    assert len(rows) == 1 + 4 + 5
    assert len(set(rows[0])) == len(rows[0])
    assert len(list(csv.reader(files["cases.csv"].open()))) == 13
    groups = list(csv.reader(files["groups.csv"].open(encoding="utf-8")))
    assert groups[1][:3] == ["Total abnormal", "all groups", "Kruskal-Wallis H"]
    assert groups[2][:3] == ["Total abnormal", "ILD - PE", "Dunn z, Holm"]
    values = list(csv.reader(files["group_values.csv"].open(encoding="utf-8")))
    assert values[1:3] == [
        ["Total abnormal", "ILD", "7", "42.0", "36.0 to 48.0"],
        ["Total abnormal", "PE", "5", "18.0", "14.0 to 22.0"],
    ]
    page = files["report.html"].read_text(encoding="utf-8")
    assert page.count("<img") == 9 + 1 + 1
    assert 'src="http' not in page
    assert "href=" not in page
    assert "Perfusion is a surrogate" in page
    text = subprocess.run(
        ["pdftotext", files["report.pdf"], "-"], capture_output=True, text=True, check=True
    ).stdout
    assert "V/Q fractions and DLCO: 12 cases" in text
    assert "Dunn" in text
    assert "c00: total abnormal 10.0 %" in text


def test_what_has_no_partner_or_no_dlco_is_left_out_by_name(results: Path, tmp_path: Path) -> None:
    table = tmp_path / "dlco.csv"
    lines = table.read_text().splitlines()
    lines[1] = "c00,,PE"
    del lines[2]
    table.write_text("\n".join([*lines, "nobody,70,PE"]) + "\n")
    found = read_cohort(results, table)
    assert len(found.cases) == 10
    assert found.left_out == (
        "dlco.csv line 2: case c00 has no DLCO",
        "dlco.csv line 13: case nobody has no results in results",
        "results c01: no line in dlco.csv",
    )


def test_wrong_and_double_rows_are_all_refused_by_line(results: Path, tmp_path: Path) -> None:
    table = tmp_path / "dlco.csv"
    table.write_text(table.read_text() + "c03,80,PE\nc99,many,PE\nc98,700,PE\n../c01,50,PE\n")
    with pytest.raises(Rejected) as refused:
        read_cohort(results, table)
    assert str(refused.value) == (
        "dlco.csv: line 14: case c03 stands in line 5 already; line 15: dlco is 'many', no number; "
        "line 16: DLCO of 700 % predicted is not plausible; line 17: '../c01' is not a valid name of a case"
    )


def test_a_table_without_its_columns_and_a_damaged_result_are_named(results: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("patient;dlco\nc00;80\n")
    with pytest.raises(Rejected, match="no column case; it has patient, dlco"):
        read_cohort(results, wrong)
    wrong.write_text("case,dlco,group\nc00,80,Müller\n", encoding="cp1252")
    with pytest.raises(Rejected, match=r"wrong\.csv is no text in UTF-8"):
        read_cohort(results, wrong)
    wrong.write_text('case,dlco\nc00,"' + "8" * 200_000)
    with pytest.raises(Rejected, match=r"wrong\.csv line 2: field larger than field limit"):
        read_cohort(results, wrong)
    (results / "c05" / "measures.json").write_text("{}")
    (results / "c07" / "measures.json").write_text('{"measures": ')
    with pytest.raises(Rejected) as refused:
        read_cohort(results, tmp_path / "dlco.csv")
    of_c05, of_c07 = str(refused.value).split("; line 9: ")
    assert of_c05.startswith("dlco.csv: line 7: ")
    assert of_c05.endswith(
        "c05/measures.json has the schema None, expected 'vq-dicom-node measures 1': make it again with this version"
    )
    assert of_c07.endswith("c07/measures.json is not JSON")


def test_damaged_dicom_results_name_no_case_and_stop_no_cohort(results: Path, tmp_path: Path) -> None:
    """Found by cutting an SR short: pydicom raises its own kinds of errors."""
    write_sr(results / "c01" / "sr.dcm", "1.2.3", "A1", "ACC1")
    whole = (results / "c01" / "sr.dcm").read_bytes()
    for end in range(0, len(whole), 7):
        (results / "c01" / "sr.dcm").write_bytes(whole[:end])
        assert len(read_cohort(results, tmp_path / "dlco.csv").cases) == 12


def test_raw_values_become_percent_predicted_by_the_user_s_table(results: Path, tmp_path: Path) -> None:
    gli, table = tmp_path / "gli.csv", tmp_path / "raw.csv"
    rows = []
    for sex, age, height, mean, limit in GLI:
        sigma = (1 - (limit / mean) ** 0.4) / (1.6448536 * 0.4)
        rows.append(f"{sex},{age},{np.log(mean) - 2 * np.log(height)},2,0.4,{sigma}")
    gli.write_text("\n".join(["sex,age,log_mu,height_power,lambda,sigma", *rows]) + "\n")
    table.write_text("case,tlco,sex,age,height\nc00,15,M,50,175\nc02,15,X,50,175\n")
    with pytest.raises(Rejected, match="line 3: sex is M or F, not 'X'"):
        read_cohort(results, table, gli)
    table.write_text("case,tlco,sex,age,height\nc00,15.092,M,40,175\nc01,19.255,F,65,162\n")
    assert [case.dlco for case in read_cohort(results, table, gli).cases] == pytest.approx([50, 100])
    table.write_text("case,tlco,sex,age,height\nc00,15,M,90,175\n")
    with pytest.raises(Rejected, match="line 2: age 90 lies outside the table's 40 to 65 years"):
        read_cohort(results, table, gli)
    gli.write_text(gli.read_text().replace(rows[1], rows[1].replace(",2,0.4,0.1", ",2,0.4,0.2")))
    with pytest.raises(Rejected, match=r"gli.csv: these are not GLI's values .* lower limit of M, 65 years"):
        read_cohort(results, table, gli)


def test_a_case_may_be_named_by_patient_accession_number_or_study(results: Path, tmp_path: Path) -> None:
    """As a node keeps its results: a folder a job, the newest of a study counts."""
    for job, study, patient in (
        (9, "1.2.3", "A1"),
        (10, "1.2.3", "A1"),
        (11, "1.2.4", "B2"),
        (12, "1.2.5", "B2"),
    ):
        folder = results / str(job)
        (results / f"c{job - 9:02d}").rename(folder)
        write_sr(folder / "0002-sr.dcm", study, patient, f"ACC{job}")
    table = tmp_path / "names.csv"
    table.write_text("case;dlco\nA1;70,5\n1.2.4;60\nACC12;50\n")
    found = read_cohort(results, table)
    assert [(case.name, case.folder.name, case.dlco) for case in found.cases] == [
        ("A1", "10", 70.5),
        ("1.2.4", "11", 60.0),
        ("ACC12", "12", 50.0),
    ]
    assert not any("results 9:" in line for line in found.left_out)
    table.write_text("case,dlco\nA1,70\n10,70\nB2,60\n")
    with pytest.raises(Rejected) as refused:
        read_cohort(results, table)
    assert str(refused.value) == (
        "names.csv: line 3: the results of case 10 stand in line 2 already; "
        "line 4: B2 has results of 2 studies: name them by Study Instance UID"
    )


def test_a_node_s_records_are_read_where_there_is_no_measures_json(results: Path, tmp_path: Path) -> None:
    """Only the part of the record that is no array is read: the arrays of this one are none."""
    table = json.loads((results / "c00" / "measures.json").read_text())["measures"]["lungs"]
    measures = {"lungs": {name: one["value"] for name, one in table.items()}}
    (results / "c00" / "measures.json").unlink()
    own = {
        "version": "7",
        "measures": measures,
        "parameters": {"low": 0.6},
        "findings": [{"verdict": "pass"}],
    }
    arrays: dict[str, Any] = {REST: np.array(json.dumps({"analysis": own}))}
    np.savez(results / "c00" / NAME, **arrays)
    case = read_cohort(results, tmp_path / "dlco.csv").cases[0]
    assert case.measures == measures["lungs"]
    assert (case.quality, case.settings) == ("pass", "vq-dicom-node 7: low 0.6")
    np.savez_compressed(results / "c00" / NAME, **arrays)
    whole = (results / "c00" / NAME).read_bytes()
    for place in range(len(whole)):
        (results / "c00" / NAME).write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with suppress(Rejected):  # and nothing else: zlib, zipfile and numpy raise errors of their own
            read_measured(results / "c00")


def write_sr(path: Path, study: str, patient: str, accession: str) -> None:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", generate_uid()
    ds.StudyInstanceUID, ds.PatientID, ds.AccessionNumber = study, patient, accession
    ds.save_as(path, enforce_file_format=True)


def test_cases_made_otherwise_are_pointed_out(results: Path, tmp_path: Path) -> None:
    for n in range(12):
        path = results / f"c{n:02d}" / "measures.json"
        made = {"software": "vq-dicom-node 1", "parameters": {"low": 0.6}, "quality": [{"verdict": "warn"}]}
        path.write_text(json.dumps(json.loads(path.read_text()) | made))
    page = report(results, tmp_path)
    assert "12 cases: vq-dicom-node 1: low 0.6" in page
    assert "same software" not in page
    path.write_text(path.read_text().replace("0.6", "0.5"))
    assert "Not all cases were made with the same software and parameters" in report(results, tmp_path)
    cases = list(csv.DictReader((tmp_path / "report" / "cases.csv").open()))
    assert {row["quality"] for row in cases} == {"warn"}


def report(results: Path, tmp_path: Path) -> str:
    write_report(read_cohort(results, tmp_path / "dlco.csv"), tmp_path / "report")
    return (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_the_command_prints_r_squared_and_refuses_in_one_sentence(results: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from dicom_node.commands.app import main; main()",
        "cohort",
        str(results),
    ]
    done = subprocess.run(
        [*command, str(tmp_path / "dlco.csv"), "-o", str(tmp_path / "r")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "12 cases" in done.stdout
    assert "r² 0.86 (0.58–0.96), r -0.93, p < 0.001" in done.stdout
    refused = subprocess.run(
        [*command, str(tmp_path / "none.csv")], capture_output=True, text=True, check=False
    )
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "none.csv cannot be read" in refused.stderr


def test_the_package_of_gli_gives_the_published_values() -> None:
    pytest.importorskip("pyspiro")
    references = read_reference(Path("pyspiro"))
    for sex, age, height, mean, limit in GLI:
        assert references[sex].lms(age, height)[1] * SI == pytest.approx(mean, rel=0.001)
        assert references[sex].lower_limit(age, height) * SI == pytest.approx(limit, rel=0.001)


def test_covariates_and_further_outcomes_stand_beside(results: Path, tmp_path: Path) -> None:
    source = (tmp_path / "dlco.csv").read_text().splitlines()
    rng = np.random.default_rng(4)
    lines = [source[0] + ",age,sex,fev1,note"]
    lines += [
        f"{line},{rng.uniform(30, 80):.0f},{'MF'[n % 2]},{2 + n / 10},text"
        for n, line in enumerate(source[1:])
    ]
    (tmp_path / "more.csv").write_text("\n".join(lines) + "\n")
    cohort = read_cohort(results, tmp_path / "more.csv")
    assert cohort.columns == ("age", "sex", "fev1")
    write_report(cohort, tmp_path / "out")
    adjusted = (tmp_path / "out" / "adjusted.csv").read_text()
    assert "Total abnormal" in adjusted
    assert "age, sex" in adjusted
    assert "all together" in (tmp_path / "out" / "regression.csv").read_text()
    outcomes = (tmp_path / "out" / "outcomes.csv").read_text()
    assert ",fev1," in outcomes
    assert ",age," not in outcomes


def text_of_pdf(path: Path, *options: str) -> str:
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is not installed")
    command = ["pdftotext", *options, str(path), "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode()


def test_figure_1_is_one_page_of_a_patient_in_his_cohort(results: Path, tmp_path: Path) -> None:
    case = case_of(tmp_path / "ct", thorax(-700), thorax(-850))
    record = record_of(analysis_of(case.pair.expiratory), case)
    (results / "c07" / NAME).write_bytes(record.dump())
    cohort = read_cohort(results, tmp_path / "dlco.csv")
    files = {path.suffix: path for path in write_figure(cohort, tmp_path)}  # the only case that is kept whole
    text = " ".join(text_of_pdf(files[".pdf"]).split())
    dlco = next(one.dlco for one in cohort.cases if one.name == "c07")
    for words in (
        *("A Perfusion surrogate Q", "B Ventilation V", "C V/Q classes", "D The cohort"),
        f"c07: total abnormal 38 %, DLCO {dlco:.0f} % (ringed).",
        *("n = 12", "95 % CI", "PE", "ILD", "Total abnormal, % of classified lung", "DLCO, % predicted"),
    ):
        assert words in text, words
    assert text_of_pdf(files[".pdf"]).count("\f") == 1
    svg = files[".svg"].read_text()
    assert svg.count("<image") == 6 + 2  # two planes of three layers, two scales; all else are vectors
    with Image.open(files[".png"]) as picture:
        width, height = picture.size
        corner = np.asarray(picture.convert("RGB"))[height // 2 :, : width // 2].reshape(-1, 3)
    assert (width, height) == pytest.approx((180 / 25.4 * 300, 128 / 25.4 * 300), abs=1)
    shown = {tuple(int(v) for v in rgb) for rgb in np.unique(corner, axis=0)}
    assert set(CLASS_RGB.values()) <= shown
    with pytest.raises(Rejected, match="the cohort has no case nobody"):
        write_figure(cohort, tmp_path, "nobody")
    with pytest.raises(Rejected, match=r"c03.analysis\.npz is not there"):
        write_figure(cohort, tmp_path, "c03")


@pytest.mark.parametrize(("outcomes", "pages_of_tables"), [(2, 2), (24, 5)])
def test_every_word_of_the_tables_lies_alone_on_its_page(
    outcomes: int, pages_of_tables: int, results: Path, tmp_path: Path
) -> None:
    table = tmp_path / "dlco.csv"
    lines = table.read_text().splitlines()
    columns = [f"outcome_{n}" for n in range(outcomes)]
    more = (
        f"age,sex,height,{','.join(columns)}",
        *(
            f"{50 + n},{'MF'[n % 2]},{1.6 + n / 50:.2f},{','.join(f'{2 + n % (3 + m)}' for m in range(outcomes))}"
            for n in range(12)
        ),
    )
    table.write_text("\n".join(f"{line},{rest}" for line, rest in zip(lines, more, strict=True)))
    write_report(read_cohort(results, table), tmp_path / "report")
    found = text_of_pdf(tmp_path / "report" / "report.pdf", "-bbox")
    pages = re.split(r"<page ", found)[1:]
    landscape = [page for page in pages if page.startswith('width="841.')]  # the others are figures
    assert len(landscape) == pages_of_tables
    for number, page in enumerate(landscape, 1):
        width, height = (float(v) for v in re.findall(r'width="([\d.]+)" height="([\d.]+)"', page)[0])
        places = []
        for *place, word in re.findall(
            r'xMin="([-\d.]+)" yMin="([-\d.]+)" xMax="([-\d.]+)" yMax="([-\d.]+)">(.*)</word>', page
        ):
            left, top, right, bottom = (float(v) for v in place)
            assert 0 < left < right < width, (number, word)
            assert 0 < top < bottom < height, (number, word)
            quarter = (bottom - top) / 4  # the letters fill about half the height that pdftotext gives them
            places.append((left + 0.2, top + quarter, right - 0.2, bottom - quarter, word))
        for one, other in itertools.combinations(places, 2):
            beside = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert beside, (number, one, other)
    words = text_of_pdf(tmp_path / "report" / "report.pdf")
    for title in ("Correlation with DLCO, adjusted", "further columns", "Groups compared", *columns):
        assert title in words, title
