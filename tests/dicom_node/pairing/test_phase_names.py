"""Descriptions that scanners, studies and archives have used, and the phases they mean."""

from __future__ import annotations

import pytest
from made import headers, slices

from dicom_node.model import Pair, PairingRules
from dicom_node.pairing.pairing import pair
from dicom_node.pairing.phase_names import phase_of, phases_named
from dicom_node.pairing.stacks import assemble

RULES = PairingRules()
#: (source, text, phase). Sources are public: TCIA collections as their users list them, and reports.
PUBLISHED = [
    # TCIA CT-vs-PET-Ventilation-Imaging, listed in HealthBioscienceIDEAS/Medical-Image-Registration-Short-Course
    # (episodes/data/README.md)
    ("CT-vs-PET", "Thorax Insp  2.0  B70f", "inspiration"),
    ("CT-vs-PET", "Thorax Exp  2.0  B70f", "expiration"),
    ("CT-vs-PET", "RespLow  2.0  B30s  80  Ex - 100  In", None),
    ("CT-vs-PET", "CT Lung  3.0  B31f", None),
    # COPDGene, file names in uncbiag/robot (shapmagn, COPD lung registration)
    ("COPDGene", "EXP_STD_USD_COPD", "expiration"),
    ("COPDGene", "INSP_STD_USD_COPD", "inspiration"),
    # TCIA 4D-Lung (Philips and Pinnacle), descriptions in several public readers of that collection
    ("4D-Lung", "P4^P113^S303^I10350, Gated, 50.0%A", "expiration"),
    ("4D-Lung", "P4^P100^S300^I00008, Gated, 0.0%", "inspiration"),
    ("4D-Lung", "P4^P100^S300^I00010, Gated, 20.0%B", None),
    # HRCT protocols: yorkshire-imaging-collaborative (src/protocols/high-resolution-chest.md)
    ("Yorkshire", "Expiratory Incremental HRCT", "expiration"),
    ("Yorkshire", "Prone Incremental HRCT", None),
    ("Yorkshire", "Axial 1mm Lung", None),
]  # fmt: skip
#: The words of the languages that scanners are set to, in the short forms that a description has room for.
LANGUAGES = [
    ("Thorax Einatmung 1.0", "inspiration"), ("Lunge in Ausatmung", "expiration"), ("Thorax Exspir.", "expiration"),
    ("TORAX INSPIRACION", "inspiration"), ("Tórax espiração", "expiration"), ("TORACE ESPIRIO", "expiration"),
    ("Poumons expi 1mm", "expiration"), ("Thorax inademing", "inspiration"), ("HRCT uitademing", "expiration"),
    ("Lungor inandning", "inspiration"), ("Thorax utandning", "expiration"), ("Thorax ekspiration", "expiration"),
    ("Lunger ekspirasjon", "expiration"), ("Toraks ekspiryum", "expiration"), ("Toraks inspiryum", "inspiration"),
    ("HRCT ekspirium", "expiration"), ("Klatka wydech", "expiration"), ("Klatka piersiowa wdech", "inspiration"),
    ("HRCT výdech", "expiration"), ("HRCT nádech", "inspiration"), ("Tüdő kilégzés", "expiration"),
    ("Keuhkot uloshengitys", "expiration"), ("Keuhkot sisäänhengitys", "inspiration"), ("ОГК выдох", "expiration"),
    ("ОГК на вдохе", "inspiration"), ("ОГК видих", "expiration"), ("Πνεύμονες εκπνοή", "expiration"),
    ("Θώρακας εισπνοή", "inspiration"), ("胸部 吸气末", "inspiration"), ("胸部呼气相", "expiration"),
    ("胸部 吸気", "inspiration"), ("흉부 호기", "expiration"), ("الصدر زفير", "expiration"),
    ("Plămâni expir", "expiration"), ("Krūtinė iškvėpimas", "expiration"), ("Krūtis ieelpa", "inspiration"),
    ("Klatka na wdechu", "inspiration"), ("KLP wydechowa", "expiration"), ("HRCT ve výdechu", "expiration"),
    ("HRCT v nádechu", "inspiration"), ("ОГК в фазе выдоха", "expiration"), ("инспираторная КТ", "inspiration"),
    ("Akciğer nefes alarak", "inspiration"), ("Akciğer nefes vererek", "expiration"),
    ("Toraks ekspiryumda", "expiration"),
    ("TÓRAX EN ESPIRACIÓN", "expiration"), ("TORAX ESPIRAL INSP", "inspiration"), ("Tórax expiratório", "expiration"),
    ("Polmone espirio forzato", "expiration"), ("apnée inspiratoire", "inspiration"),
    ("Thorax ingeademd", "inspiration"),
    ("最大吸気位", "inspiration"), ("肺 呼气末", "expiration"), ("深吸气后屏气", "inspiration"),
    ("호기 CT", "expiration"),
    ("Lunger utåndet", "expiration"), ("Lunge Ausatemphase exspiratorisch", "expiration"),
    ("Πνεύμονες εκπνευστική", "expiration"), ("Plămâni în inspirație", "inspiration"),
    ("Dychanie vydychnutie", "expiration"),
    ("Pluća izdah", "expiration"), ("Kopsud eksspiratsioon", "expiration"), ("Thorax inspiratsioon", "inspiration"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "text", "phase"), PUBLISHED)
def test_published_descriptions_are_understood(source: str, text: str, phase: str | None) -> None:
    assert phase_of("", None, [text], RULES)[0] == phase, source


@pytest.mark.parametrize(("text", "phase"), LANGUAGES)
def test_the_languages_of_scanners_are_understood(text: str, phase: str) -> None:
    assert phases_named(text, RULES) == {phase}


@pytest.mark.parametrize(
    "text",
    [
        "Thorax In-/Exspiration",
        "Lunge In- und Exspiration",
        "Ein- und Ausatmung",
        "in- en uitademing",
        "in e espirazione",
        "INSPIRACION Y ESPIRACION",
        "in- og utånding",
        "CHEST IN/EX",
        "Chest in+ex",
        "Thorax IN - EX 1.0",
        "in/out",
        "EX/IN",
        "Thorax in & ex",
        "In_Ex",
    ],
)
def test_paired_weak_words_are_ambiguous(text: str) -> None:
    assert phases_named(text, RULES) == {"inspiration", "expiration"}


def test_an_ambiguous_protocol_leaves_the_phases_to_the_volumes() -> None:
    texts = ("Axial 1.25", "CHEST IN/EX", "", "")
    found = [
        *headers(slices(60), "1", texts=texts, acquired="20260101090000"),
        *headers(slices(60), "2", texts=texts, acquired="20260101090500"),
    ]
    decision = pair(assemble(found), RULES)
    assert isinstance(decision, Pair)
    assert not decision.decided


@pytest.mark.parametrize("text", ["TORAX ESPIRAL", "Espiral 3.0", "tórax espiral 1mm", "ESPIRALES"])
def test_the_spanish_spiral_is_no_expiration(text: str) -> None:
    assert phases_named(text, RULES) == set()


@pytest.mark.parametrize("text", ["RV/LV ratio", "CTPA RV strain", "Cardiac function RV", "RV LV"])
def test_the_heart_is_no_lung_volume(text: str) -> None:
    assert phases_named(text, RULES) == set()


@pytest.mark.parametrize(
    ("text", "phase", "named"),
    [
        ("0%", "inspiration", True), ("T=50%", "expiration", True), ("CT 50,0 %", "expiration", True),
        ("20.0%", None, True), ("Resp 100% In", "inspiration", True), ("Resp 0% Ex", "expiration", True),
        ("Resp 50% Ex", None, True), ("ASiR 40%", None, False), ("ECG 75%", None, False),
        ("BestDiast 50 %", None, False),
        ("0% - 90%", None, False), ("iDose 50%", None, False),
        ("CT_70_Ex", None, True), ("CT_100_In", "inspiration", True), ("CT_0_Ex", "expiration", True),
        ("4D_case1_T50", "expiration", True), ("case1_T00", "inspiration", True), ("T20", None, True),
        ("Phase 50", "expiration", True), ("4DCT_30", None, True), ("５０％", "expiration", True),
        ("50% Exsp", None, True), ("100% Exsp", "expiration", False), ("2.0 Ex", "expiration", False),
        ("T10", None, False), ("Phase 2", None, False), ("Portal venous phase 70", None, False),
        ("ASiR-V 50%", None, False), ("Thorax T50 mm", None, False),
    ],
)  # fmt: skip
def test_percentages_of_a_breath_are_told_from_others(text: str, phase: str | None, named: bool) -> None:
    found, evidence = phase_of("", None, [text], RULES)
    assert found == phase
    assert ("names phase" in evidence or "names amplitude" in evidence) == named


def test_of_a_4d_study_the_ends_of_the_breath_are_paired() -> None:
    found = [
        h
        for percent in range(0, 100, 10)
        for h in headers(
            slices(60), f"1.{percent}", text=f"P4^P1^S{percent}, Gated, {percent:.1f}%A", acquired="2026"
        )
    ]
    decision = pair(assemble(found), RULES)
    assert isinstance(decision, Pair)
    assert decision.decided
    assert [s.series_instance_uid for s in (decision.inspiratory, decision.expiratory)] == ["1.0", "1.50"]


def test_the_middle_of_a_breath_is_no_other_phase() -> None:
    found = [
        *headers(slices(60), "1", text="Gated, 0.0%", acquired="1"),
        *headers(slices(60), "2", text="Gated, 20.0%", acquired="2"),
    ]
    assert not isinstance(pair(assemble(found), RULES), Pair)
