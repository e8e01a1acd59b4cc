"""Which two stacks of a study belong together, and what is said where none do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import headers, slices

from dicom_node.model import Header, Pair, PairingRules, Person
from dicom_node.pairing.pairing import NoPair, pair
from dicom_node.pairing.stacks import assemble

RULES = PairingRules()


def stack(
    uid: str, text: str, *, kernel: str = "B30f", gap: float = 2.5, n: int = 0, time: str = "",
    study: str = "1.2",
    image_type: str = "ORIGINAL\\PRIMARY\\AXIAL", position: str = "", device: str = "",
) -> list[Header]:  # fmt: skip
    found = slices(n or int(250 / gap), gap, acquisition=("1", kernel, image_type, "", ""))
    how = {"patient_position": position, "device": device, "study_instance_uid": study}
    return headers(found, uid, text=text, acquired=time or f"2026{uid}", **how)


def paired(*stacks: Iterable[Header]) -> Pair:
    found = pair(assemble(h for s in stacks for h in s), RULES)
    assert isinstance(found, Pair), found
    return found


def unpaired(*stacks: Iterable[Header], rules: PairingRules = RULES) -> NoPair:
    found = pair(assemble(h for s in stacks for h in s), rules)
    assert isinstance(found, NoPair), found
    return found


def uids(p: Pair) -> tuple[str, str]:
    return p.inspiratory.series_instance_uid, p.expiratory.series_instance_uid


def test_named_phases_make_a_decided_pair() -> None:
    p = paired(stack("1", "Thorax Exp"), stack("2", "Thorax Insp"))
    assert uids(p) == ("2", "1")
    assert p.decided
    assert (
        p.reason == "inspiration: SeriesDescription 'Thorax Insp'; expiration: SeriesDescription 'Thorax Exp'"
    )


@pytest.mark.parametrize("text", ["Thorax Insp", "Thorax Exp"])
def test_one_phase_alone_waits(text: str) -> None:
    phase = "inspiration" if "Insp" in text else "expiration"
    found = unpaired(stack("7", text))
    assert found == NoPair(f"waiting for the other phase: only {phase} (series 7) so far", True)


def test_two_inspiratory_series_wait_for_the_expiratory_one() -> None:
    found = unpaired(stack("1", "Insp A"), stack("2", "Insp B"))
    assert found.waiting
    assert found.reason == (
        "waiting for the other phase: 2 inspiratory stacks and no expiratory one (series 1, 2)"
    )


def test_two_unnamed_breath_holds_are_for_the_volumes_to_decide() -> None:
    p = paired(stack("2", "Thorax"), stack("1", "Thorax"))
    assert not p.decided
    assert uids(p) == ("1", "2")


def test_one_unnamed_breath_hold_waits() -> None:
    found = unpaired(stack("1", "Thorax"))
    assert found.waiting
    assert "only one breath-hold (series 1) so far" in found.reason


@pytest.mark.parametrize(("text", "expected"), [("Insp", ("1", "2")), ("Exp", ("2", "1"))])
def test_the_unnamed_partner_is_presumed(text: str, expected: tuple[str, str]) -> None:
    p = paired(stack("1", text), stack("2", "Thorax"))
    assert uids(p) == expected
    assert not p.decided
    assert "presumed" in p.reason


def test_another_reconstruction_is_no_partner() -> None:
    found = unpaired(stack("1", "Insp", time="T"), stack("2", "Thorax", kernel="B70f", time="T"))
    assert found.reason == "waiting for the other phase: only inspiration (series 1) so far"


def test_four_unnamed_reconstructions_of_two_breaths_make_a_pair() -> None:
    p = paired(
        stack("1", "a", time="T1"), stack("2", "b", time="T1", kernel="B70f"),
        stack("3", "c", time="T2"), stack("4", "d", time="T2", kernel="B70f"),
    )  # fmt: skip
    assert uids(p) == ("1", "3")
    assert not p.decided


def test_three_unnamed_breaths_are_for_a_person() -> None:
    found = unpaired(*(stack(n, "Thorax") for n in "123"))
    assert not found.waiting
    assert found.reason == "3 stacks and nothing says which phases they are (series 1, 2, 3)"


@pytest.mark.parametrize(
    "worse",
    [
        {"kernel": "B70f"}, {"kernel": "Br64d\\3"}, {"kernel": "LUNG"}, {"kernel": "FC52"},
        {"kernel": "BONE"},
        {"kernel": "YC"}, {"gap": 4.0}, {"image_type": "DERIVED\\PRIMARY\\AXIAL"}, {"n": 50},
    ],
)  # fmt: skip
def test_the_better_reconstruction_is_taken(worse: dict[str, Any]) -> None:
    p = paired(
        stack("1", "Insp", **worse),
        stack("2", "Insp"),
        stack("3", "Exp", **worse),
        stack("4", "Exp"),
    )
    assert uids(p) == ("2", "4")


def test_a_soft_thick_pair_beats_a_sharp_thin_one() -> None:
    p = paired(
        stack("1", "Insp", kernel="B70f", gap=1.0), stack("2", "Insp"),
        stack("3", "Exp", kernel="B70f", gap=1.0),
        stack("4", "Exp"),
    )  # fmt: skip
    assert uids(p) == ("2", "4")


def test_one_kernel_for_both_is_preferred() -> None:
    p = paired(stack("1", "Insp", kernel="B20f"), stack("2", "Insp"), stack("4", "Exp"))
    assert uids(p) == ("2", "4")


def test_below_a_millimetre_spacing_is_matched_instead() -> None:
    p = paired(stack("1", "Insp", gap=0.5), stack("2", "Insp", gap=1.0), stack("4", "Exp", gap=1.0))
    assert uids(p) == ("2", "4")


def test_slices_above_the_limit_are_no_candidates() -> None:
    found = unpaired(stack("1", "Insp"), stack("2", "Exp", gap=8.0))
    assert found.reason == (
        "waiting for the other phase: only inspiration (series 1) so far; "
        "series 2 has slices of 8 mm, limit 5 mm"
    )


def test_what_was_refused_is_told() -> None:
    broken = [h for n, h in enumerate(stack("2", "Exp")) if n != 1]
    found = unpaired(stack("1", "Insp"), broken)
    assert found.waiting
    assert found.reason.endswith("series 2 refused: slice gap 5.0 mm after z=-210.5, expected 2.5")


def test_nothing_is_said_to_be_nothing() -> None:
    assert unpaired([]) == NoPair("waiting: no usable chest CT stack so far", True)


def test_studies_are_never_mixed() -> None:
    assert unpaired(stack("1", "Insp"), stack("2", "Exp", study="9")).waiting


def test_phases_of_one_4d_series_pair() -> None:
    found = []
    for percent in range(0, 100, 10):
        acquisition = ("1", "B30f", "ORIGINAL\\PRIMARY\\AXIAL", str(percent), "")
        found += headers(slices(60, acquisition=acquisition), "1", prefix=str(percent))
    p = paired(found)
    assert p.decided
    assert [s.slices[0].acquisition[3] for s in (p.inspiratory, p.expiratory)] == ["0", "50"]


def test_contrast_goes_with_the_series() -> None:
    contrast = [replace(h, contrast="Iomeron") for h in stack("1", "Insp")]
    assert paired(contrast, stack("2", "Exp")).inspiratory.contrast == "Iomeron"


@settings(max_examples=30)
@given(st.randoms(use_true_random=False))
def test_arrival_order_does_not_matter(random: object) -> None:
    found = [
        h
        for uid, text, kernel in (
            ("1", "Insp", "B30f"), ("2", "Insp", "B70f"), ("3", "Exp", "B30f"), ("4", "", "C")
        )
        for h in stack(uid, text, kernel=kernel)
    ]  # fmt: skip
    expected = pair(assemble(found), RULES)
    random.shuffle(found)  # type: ignore[attr-defined]
    assert pair(assemble(found), RULES) == expected


def of(person: Person, found: list[Header], **fields: object) -> list[Header]:
    return [replace(h, person=person, **fields) for h in found]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        (Person("a"), Person("b"), "Patient ID (0010,0020) differs"),
        (Person("a", "x"), Person("a", "y"), "Issuer of Patient ID (0010,0021) differs"),
        (Person("a", "", "1"), Person("a", "", "2"), "Patient's Birth Date (0010,0030) differs"),
        (Person("a", name="n"), Person("a", name="m"), "Patient's Name (0010,0010) differs"),
        (Person(name="n"), Person(name="m"), "Patient's Name (0010,0010) differs"),
        (
            Person("a"), Person(),
            "Patient ID (0010,0020) and Patient's Name (0010,0010) do not say that it is one patient",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("words", [("Insp", "Exp"), ("Insp", "Thorax"), ("a", "b")])
def test_two_patients_are_never_a_pair(
    one: Person, other: Person, difference: str, words: tuple[str, str]
) -> None:
    found = unpaired(of(one, stack("1", words[0])), of(other, stack("2", words[1])))
    assert found == NoPair(f"series 1 and 2 are of two patients: {difference}", False, people=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Person("a", "x", "1", "n"), Person("a")),
        (Person("a", name="n"), Person(name="n")),
        (Person(), Person()),
    ],
)
def test_what_one_leaves_out_does_not_make_two_patients(one: Person, other: Person) -> None:
    assert paired(of(one, stack("1", "Insp")), of(other, stack("2", "Exp"))).decided


def test_the_same_position_ranks_first() -> None:
    p = paired(
        stack("1", "Insp prone", position="HFP"),
        stack("2", "Insp", position="HFS"),
        stack("3", "Exp", position="HFS"),
    )
    assert uids(p) == ("2", "3")
    p = paired(stack("1", "Insp prone"), stack("2", "Insp"), stack("3", "Exp"))
    assert uids(p) == ("2", "3")


@pytest.mark.parametrize(
    ("one", "other"),
    [(("Insp", "HFP"), ("Exp", "HFS")), (("Insp", ""), ("Prone", "")), (("Insp", "HFS"), ("x", "HFDR"))],
)
def test_a_pair_the_patient_was_turned_between_is_refused_unless_wanted(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    both = stack("1", one[0], position=one[1]), stack("2", other[0], position=other[1])
    assert "; the positions of the patient differ (series 1 " in unpaired(*both).reason
    found = pair(assemble(h for s in both for h in s), PairingRules(different_positions=True))
    assert isinstance(found, Pair)


def test_feet_first_and_head_first_are_one_position() -> None:
    assert paired(stack("1", "Insp", position="FFS"), stack("2", "Exp", position="HFS")).decided


ONE: dict[str, Any] = {"time": "20260101090000", "device": "Make Model 1"}
LATER: dict[str, Any] = {"time": "20260101091200.5", "device": "Make Model 1"}


def test_each_breath_hold_its_own_study_is_a_pair_of_one_patient() -> None:
    insp, exp = stack("1", "Insp", **ONE), stack("2", "Exp", study="9", **LATER)
    assert uids(paired(of(Person("a"), insp), of(Person("a"), exp))) == ("1", "2")
    assert unpaired(of(Person("a"), insp), of(Person("b"), exp)).waiting
    assert unpaired(of(Person(name="n"), insp), of(Person(name="n"), exp)).waiting


@pytest.mark.parametrize(
    "other",
    [{"time": "20260101100000"}, {"device": "Make Model 2"}, {"time": ""}],
    ids=["late", "elsewhere", "undated"],
)
def test_studies_that_are_no_one_examination_are_never_mixed(other: dict[str, Any]) -> None:
    found = [
        *of(Person("a"), stack("1", "Insp", **ONE)),
        *of(Person("a"), stack("2", "Exp", study="9", **LATER | other)),
    ]
    assert unpaired(found).waiting
    never = PairingRules(between_studies_minutes=0.0)
    assert isinstance(pair(assemble(found), never), NoPair)


def test_one_frame_of_reference_is_enough() -> None:
    frame = {"frame_of_reference": "1.2.3"}
    insp = of(Person("a"), stack("1", "Insp", time="20260101090000"), **frame)
    assert uids(paired(insp, of(Person("a"), stack("2", "Exp", study="9", time="20260101090500"), **frame)))
