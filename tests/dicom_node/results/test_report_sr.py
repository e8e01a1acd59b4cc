"""The report holds every number of the analysis, coded, and says what it is not."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from dicom_objects import dciodvfy, stored
from made import analysis_of, case_from, case_of, thorax
from pydicom import Dataset, dcmread

from analysis.anatomy.regions import REGIONS
from analysis.figures.impression import impression
from analysis.figures.report import method_in_words
from analysis.limits_of_use import LIMITS
from analysis.measures.digits import DECIMALS, firm_text
from analysis.measures.table import MEASURES
from analysis.pipeline.pipeline import Analysis, Parameters
from analysis.volume import Volume
from dicom_node.results import codes
from dicom_node.results.context import Case
from dicom_node.results.kinds import build_objects


def no_ct() -> Volume:
    raise AssertionError("SEG and SR are made without the images")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("pair")
    return case_of(folder, thorax(-700), thorax(-850), PatientName="Müller^Jürgen")


@pytest.fixture(scope="module")
def analysis(case: Case) -> Analysis:
    return analysis_of(case.pair.expiratory)


@pytest.fixture(scope="module")
def objects(analysis: Analysis, case: Case) -> list[Dataset]:
    return [stored(ds) for _, ds in build_objects(analysis, case, no_ct, ("seg", "sr"))]


def content(ds: Dataset) -> Iterator[Dataset]:
    for item in ds.get("ContentSequence", []):
        yield item
        yield from content(item)


def name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def groups(sr: Dataset) -> list[Dataset]:
    return [i for i in content(sr) if i.ValueType == "CONTAINER" and name(i) == "125007"]


def test_every_number_is_there_with_its_unit(objects: list[Dataset], analysis: Analysis) -> None:
    found = {}
    for group in groups(objects[1]):
        region = next(i.TextValue for i in group.ContentSequence if name(i) == "112039")
        for item in group.ContentSequence:
            if item.ValueType == "NUM":
                value = item.MeasuredValueSequence[0]
                unit = value.MeasurementUnitsCodeSequence[0]
                assert unit.CodingSchemeDesignator == "UCUM"
                found[region, name(item)] = (float(value.NumericValue), unit.CodeValue)
    expected = {
        (REGIONS[region], codes.measure_code(measure).value): (value, MEASURES[measure].unit)
        for region, values in analysis.measures.items()
        for measure, value in values.items()
        if math.isfinite(value)
    }
    assert found.keys() == expected.keys()
    for key, (value, unit) in expected.items():
        # the made uncertainties are of several percent points: their fractions carry no decimal
        step = 10 if unit == "%" else 10.0 ** -DECIMALS.get(unit, 2)
        assert abs(found[key][0] - value) <= step / 2 + 1e-9, key
        assert found[key][1] == unit


def test_no_number_has_a_digit_that_it_does_not_carry(analysis: Analysis, case: Case) -> None:
    row = {**analysis.measures["lungs"], "shunt": 0.0116734, "shunt_sd": 0.31, "mean_q": 0.031415926}
    changed = replace(analysis, measures={**analysis.measures, "lungs": row})
    _, (_, sr) = build_objects(changed, case, no_ct, ("sr",))
    items = {name(i): i.MeasuredValueSequence[0].NumericValue for i in groups(sr)[0].ContentSequence
             if i.ValueType == "NUM"}  # fmt: skip
    assert str(items["SHUNT"]) in ("0", "0.0")
    assert str(items["MEAN_Q"]) == "0.0314"
    assert all(len(str(value).lstrip("-").replace(".", "")) <= 6 for value in items.values())


def test_every_measure_has_a_code_of_its_own() -> None:
    made = [codes.measure_code(m) for m in MEASURES]
    assert len({(c.value, c.scheme_designator) for c in made}) == len(MEASURES)
    assert all(len(c.value) <= 16 and 0 < len(c.meaning) <= 64 for c in made)
    assert {m.unit for m in MEASURES.values()} <= set(codes.UNITS)


def test_every_number_says_how_it_was_made(objects: list[Dataset]) -> None:
    assert set(codes.METHODS) == set(codes.DERIVATIONS) == set(MEASURES)
    numbers = [i for group in groups(objects[1]) for i in group.ContentSequence if i.ValueType == "NUM"]
    assert len(numbers) > 200
    for item in numbers:
        said = {name(i): i.ConceptCodeSequence[0].CodeValue for i in item.ContentSequence}
        assert {"370129005", "121401"} <= said.keys()  # Measurement Method, Derivation
    by_concept = {name(i): {name(m): m.ConceptCodeSequence[0] for m in i.ContentSequence} for i in numbers}
    assert by_concept["LAA950"]["370129005"].CodeMeaning.startswith("HU histogram")
    assert by_concept["CV_Q"]["121401"].CodeValue == codes.VARIATION.value


def test_every_region_is_a_group_at_its_site(objects: list[Dataset]) -> None:
    assert len(groups(objects[1])) == len(REGIONS)
    for group, region in zip(groups(objects[1]), REGIONS, strict=True):
        site = next(i for i in group.ContentSequence if name(i) == "363698007")
        expected = codes.SITES[region]
        assert site.ConceptCodeSequence[0].CodeValue == expected.structure.value
        assert site.ContentSequence[0].ConceptCodeSequence[0].CodeValue == expected.laterality.value


def test_lungs_reference_their_segments(objects: list[Dataset], case: Case) -> None:
    seg, sr = objects
    segments = [
        (
            i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID,
            i.ReferencedSOPSequence[0].ReferencedSegmentNumber,
        )
        for i in content(sr)
        if name(i) == "121191"
    ]
    assert segments == [(seg.SOPInstanceUID, 5), (seg.SOPInstanceUID, 6)]
    sources = {i.UID for i in content(sr) if name(i) == "121232"}
    assert sources == {case.pair.expiratory.series_instance_uid}


def test_the_image_library_names_both_series_and_shows_one_image_of_each(
    objects: list[Dataset], case: Case
) -> None:
    (library,) = (i for i in objects[1].ContentSequence if name(i) == "111028")
    expected = {"58322009": case.pair.expiratory, "14910006": case.pair.inspiratory}
    for group in library.ContentSequence:
        phase = next(i.ConceptCodeSequence[0].CodeValue for i in group.ContentSequence if name(i) == "PHASE")
        series = expected.pop(phase)
        (named,) = (i.UID for i in group.ContentSequence if name(i) == "112002")
        assert named == series.series_instance_uid
        (image,) = (i for i in group.ContentSequence if i.ValueType == "IMAGE")
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID in series.sop_instance_uids
    assert expected == {}


def instances(sequence: Iterable[Dataset]) -> set[str]:
    return {
        i.ReferencedSOPInstanceUID
        for study in sequence
        for series in study.ReferencedSeriesSequence
        for i in series.ReferencedSOPSequence
    }


def test_evidence_names_every_object_referenced_and_every_image_used(
    objects: list[Dataset], case: Case
) -> None:
    referenced = {
        i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for i in content(objects[1])
        if i.ValueType == "IMAGE"
    }
    current = instances(objects[1].CurrentRequestedProcedureEvidenceSequence)
    others = instances(objects[1].get("PertinentOtherEvidenceSequence", []))
    both = (*case.pair.expiratory.sop_instance_uids, *case.pair.inspiratory.sop_instance_uids)
    assert referenced <= current
    assert current | others == {*both, objects[0].SOPInstanceUID}


def test_the_conclusion_stands_before_images_and_numbers(objects: list[Dataset], analysis: Analysis) -> None:
    contained = [i for i in objects[1].ContentSequence if i.RelationshipType == "CONTAINS"]
    told = [i.TextValue for i in contained if name(i) == "121077"]
    assert [name(i) for i in contained[: len(told)]] == ["121077"] * len(told)
    assert told[: len(impression(analysis))] == list(impression(analysis))
    assert "shunt-like: V below 60 %, Q kept" in told[-1]


def test_a_viewer_has_few_images_to_list_and_every_item_with_its_name(objects: list[Dataset]) -> None:
    assert sum(i.ValueType == "IMAGE" for i in content(objects[1])) == 4  # two series, two segments
    containers = [objects[1], *(i for i in content(objects[1]) if i.ValueType == "CONTAINER")]
    assert {i.ContinuityOfContent for i in containers} == {"SEPARATE"}


def test_algorithm_version_and_parameters_are_told(objects: list[Dataset], analysis: Analysis) -> None:
    texts = [i.TextValue for i in content(objects[1]) if i.ValueType == "TEXT"]
    assert "VQ CT" in texts
    assert analysis.version in texts
    assert "sigma_mm=6.5" in texts


def test_limits_and_quality_are_told(objects: list[Dataset], analysis: Analysis) -> None:
    texts = [i.TextValue for i in content(objects[1]) if i.ValueType == "TEXT"]
    assert any("Research use only" in t and "surrogate derived from CT density" in t for t in texts)
    for finding in analysis.findings:
        assert any(finding.sentence in t and finding.verdict.upper() in t for t in texts)


def test_the_title_is_one_ohif_renders(objects: list[Dataset]) -> None:
    assert name(objects[1]) != "126000"
    assert objects[1].ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_highdicom_reads_the_same_groups(objects: list[Dataset]) -> None:
    highdicom = pytest.importorskip("highdicom")
    report = highdicom.sr.Comprehensive3DSR.from_dataset(objects[1]).content
    assert len(report.get_volumetric_roi_measurement_groups()) == 2
    assert len(report.get_image_measurement_groups()) == len(REGIONS) - 2


def test_our_words_need_no_character_set() -> None:
    """A CT may name none, and its results then have none either."""
    assert (method_in_words(Parameters()) + LIMITS).isascii()


def test_dciodvfy_finds_no_error(objects: list[Dataset], tmp_path: Path) -> None:
    objects[1].save_as(tmp_path / "sr.dcm")
    assert dciodvfy(tmp_path / "sr.dcm") == ""


def test_dsrdump_prints_the_fractions(objects: list[Dataset], tmp_path: Path) -> None:
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump (dcmtk) is not installed")
    objects[1].save_as(tmp_path / "sr.dcm")
    environment = {**os.environ, "TCP_NODELAY": "1"}
    done = subprocess.run(
        ["dsrdump", str(tmp_path / "sr.dcm")], capture_output=True, check=True, env=environment
    )
    text = done.stdout.decode()
    for words in (
        "Dead space, fraction",
        "Shunt, fraction",
        "Matched defect, fraction",
        "Total abnormal, fraction",
    ):
        assert text.count(words) == len(REGIONS)


def test_a_retry_makes_the_same_bytes(analysis: Analysis, case: Case) -> None:
    made = []
    for _ in range(2):
        buffer = BytesIO()
        _, (_, report) = build_objects(analysis, case, no_ct, ("sr",))
        report.save_as(buffer, enforce_file_format=True)
        made.append(buffer.getvalue())
    assert made[0] == made[1]


@pytest.mark.parametrize("name", ["popi-00-philips", "normal001-siemens-jpegll"])
def test_real_series_make_valid_reports(shared: Path, tmp_path: Path, name: str) -> None:
    zipfile.ZipFile(shared / "real-ct" / f"{name}.zip").extractall(tmp_path / "ct")
    files = [p for p in (tmp_path / "ct").rglob("*") if p.is_file()]
    case = case_from(files, files)
    _, (_, sr) = build_objects(analysis_of(case.pair.expiratory), case, no_ct, ("sr",))
    sr.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert dciodvfy(tmp_path / "sr.dcm") == ""
    assert dcmread(tmp_path / "sr.dcm").file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"


def test_the_fractions_are_told_in_a_sentence_too(objects: list[Dataset], analysis: Analysis) -> None:
    texts = [i.TextValue for i in content(objects[1]) if i.ValueType == "TEXT"]
    values = analysis.measures["right"]
    (told,) = [t for t in texts if t.startswith("Right lung, ")]
    assert f"dead space {firm_text(values, 'dead_space', True)}" in told
    assert told.endswith(f"total abnormal {firm_text(values, 'total_abnormal', True)}.")
    assert "+/-" in told
    (shares,) = [t for t in texts if t.startswith("Right lung: ")]
    assert f"{values['share_q']:.1f} % of the perfusion surrogate Q" in shares
    assert f"{values['remaining_q']:.1f} % of Q (Bria 1983" in shares
