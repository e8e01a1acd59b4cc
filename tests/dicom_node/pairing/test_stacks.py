"""Stacks come from geometry alone, whatever the order of arrival; others are refused in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import headers, slices

from dicom_node.model import Header, PairingRules, Person
from dicom_node.pairing.stacks import assemble


def reasons(found: list[Header]) -> list[str]:
    assembled = assemble(found)
    assert assembled.series == ()
    return [r.reason for r in assembled.refused]


def test_a_plain_stack_ascends() -> None:
    (series,) = assemble(reversed(headers(slices(60)))).series
    z = [s.position[2] for s in series.slices]
    assert z == sorted(z)
    assert (len(z), series.gap, series.kernel) == (60, 2.5, "B30f")


def test_feet_first_ascends_along_row_x_column() -> None:
    feet_first = slices(60, orientation=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    (series,) = assemble(headers(feet_first)).series
    z = [s.position[2] for s in series.slices]
    assert z == sorted(z, reverse=True)


@settings(max_examples=40)
@given(st.randoms(use_true_random=False), st.integers(0, 40))
def test_arrival_order_and_repetition_do_not_matter(random: object, repeated: int) -> None:
    found = [
        *headers(slices(50), "1.2.3", text="Thorax Insp"),
        *headers(slices(50, start=-200), "1.2.4", text="Thorax Exp"),
        *headers(slices(40, 5.0), "1.2.3", prefix="9", text="thick"),
        *headers(slices(30)[:29], "1.2.5"),
        *headers([s for n, s in enumerate(slices(50)) if n != 20], "1.2.6"),
    ]
    expected = assemble(found)
    shuffled = [*found, *found[:repeated]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert assemble(shuffled) == expected


@settings(max_examples=30)
@given(st.floats(-math.pi, math.pi), st.floats(-0.6, 0.6), st.sampled_from([0.6, 1.25, 3.0]), st.booleans())
def test_any_orientation_makes_a_stack(turn: float, lean: float, gap: float, prone: bool) -> None:
    row = (math.cos(turn), math.sin(turn), 0.0)
    column = (-math.sin(turn) * math.cos(lean), math.cos(turn) * math.cos(lean), math.sin(lean))
    if prone:
        row, column = tuple(-v for v in row), tuple(-v for v in column)  # type: ignore[assignment]
    normal = (
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    )
    n = int(200 / gap)
    stack = [
        replace(s, orientation=(*row, *column), position=tuple(round(gap * k * v, 3) for v in normal))  # type: ignore[arg-type]
        for k, s in enumerate(slices(n))
    ]
    assembled = assemble(headers(stack))
    assert [r.reason for r in assembled.refused] == []
    assert assembled.series[0].gap == pytest.approx(gap, rel=1e-3)
    assert [s.sop_instance_uid for s in assembled.series[0].slices] == [f"1.2.3.1.2.3.{k}" for k in range(n)]


@pytest.mark.parametrize("digits", [1, 2, 6])
@pytest.mark.parametrize("gap", [0.625, 0.75, 1.25, 2.0, 3.3333])
def test_rounded_positions_are_even(gap: float, digits: int) -> None:
    n = int(250 / gap)
    stack = [replace(s, position=(0.0, 0.0, round(-300 + gap * k, digits))) for k, s in enumerate(slices(n))]
    (series,) = assemble(headers(stack)).series
    assert series.gap == pytest.approx(gap, abs=1e-3)


def test_a_missing_slice_is_named() -> None:
    stack = [s for n, s in enumerate(slices(60)) if n != 1]
    assert reasons(headers(stack)) == ["slice gap 5.0 mm after z=-210.5, expected 2.5"]


def test_uneven_slices_are_refused() -> None:
    stack = list(slices(60))
    stack[30] = replace(stack[30], position=(-250.0, -250.0, stack[30].position[2] + 0.5))
    assert reasons(headers(stack)) == ["uneven slices: gap 3.0 mm after z=-138, expected 2.5"]


def test_gantry_tilt_is_refused() -> None:
    angle = math.radians(12)
    tilted = slices(60, orientation=(1.0, 0.0, 0.0, 0.0, math.cos(angle), math.sin(angle)))
    (reason,) = reasons(headers(tilted, gantry_tilt=12.0))
    assert reason.startswith("gantry tilt of 12.0°")


def test_a_tilt_the_geometry_denies_is_refused() -> None:
    (reason,) = reasons(headers(slices(60), gantry_tilt=-15.0))
    assert reason == "gantry tilt of 15.0°, but the slices are described as leaning 0.0°"


def test_a_slice_shifted_in_its_plane_is_refused() -> None:
    stack = list(slices(60))
    x, y, z = stack[10].position
    stack[10] = replace(stack[10], position=(x + 8, y, z))
    assert reasons(headers(stack)) == ["the slice at z=-185.5 is shifted 8.0 mm in its plane"]


@pytest.mark.parametrize(
    ("n", "gap", "reason"),
    [
        (1, 2.5, "1 slice: fewer than 20 are no chest CT"),
        (3, 2.5, "3 slices: fewer than 20 are no chest CT"),
        (30, 2.5, "72.5 mm covered: less than 100 mm is no chest CT"),
    ],
)
def test_too_little_is_no_chest(n: int, gap: float, reason: str) -> None:
    assert reasons(headers(slices(n, gap))) == [reason]


def test_a_head_is_no_chest() -> None:
    assert reasons(headers(slices(60), body_part="HEAD")) == [
        "not a chest: Body Part Examined (0018,0015) is HEAD"
    ]


def test_an_odd_instance_is_reported_and_condemns_no_series() -> None:
    found = headers(slices(60))
    odd = [
        replace(
            found[0], sop_instance_uid=f"9.{n}", slices=(), ignored=f"no PixelSpacing in SOP instance {n}"
        )
        for n in (1, 2)
    ]
    assembled = assemble([*found, *odd])
    (series,) = assembled.series
    assert len(series.slices) == 60
    reason = "no PixelSpacing in SOP instance 1 (and 1 more like it)"
    assert [r.reason for r in assembled.refused] == [reason]
    assert series.notes == (f"Left out: {reason}.",)


def test_geometry_that_is_missing_within_a_stack_leaves_a_gap() -> None:
    found = headers(slices(60))
    broken = replace(found[30], slices=(), ignored="no PixelSpacing in SOP instance 1")
    assert reasons([*found[:30], broken, *found[31:]]) == [
        "no PixelSpacing in SOP instance 1",
        "slice gap 5.0 mm after z=-138, expected 2.5",
    ]


@pytest.mark.parametrize(
    "value", [lambda k: str(k // 8), str, lambda k: "" if k == 7 else "1", lambda k: "1" if k < 30 else "2"]
)
@pytest.mark.parametrize("position", [0, 2, 4], ids=["acquisition", "image type", "temporal position"])
def test_one_even_stack_is_one_whatever_the_scanner_counts(
    position: int, value: Callable[[int], str]
) -> None:
    stack = []
    for k, s in enumerate(slices(60)):
        acquisition = list(s.acquisition)
        acquisition[position] = value(k)
        stack.append(replace(s, acquisition=tuple(acquisition)))
    assembled = assemble(headers(stack))
    assert [len(s.slices) for s in assembled.series] == [60]
    assert assembled.refused == ()


def test_two_scans_between_each_others_slices_are_two() -> None:
    found = [
        *headers(slices(30, 5.0)),
        *headers(slices(30, 5.0, start=-208.0, acquisition=("2", "B30f", "ORIGINAL\\PRIMARY\\AXIAL", "", "")),
                 prefix="9"),
    ]  # fmt: skip
    assert [(len(s.slices), s.gap) for s in assemble(found).series] == [(30, 5.0), (30, 5.0)]


def test_both_phases_in_one_stacks_comments_are_two_breaths() -> None:
    stack = slices(60)
    found = [
        *headers(stack[::2], texts=("Thorax", "", "Inspiration")),
        *headers(stack[1::2], prefix="9", texts=("Thorax", "", "Exspiration")),
    ]
    assert sorted(str(s.phase) for s in assemble(found).series) == ["expiration", "inspiration"]


def test_many_parts_are_refused_in_few_sentences() -> None:
    stack = [s for k, s in enumerate(slices(80)) if k % 8 != 3]
    counted = [replace(s, acquisition=(str(k), *s.acquisition[1:])) for k, s in enumerate(stack)]
    assert reasons(headers(counted)) == ["slice gap 5.0 mm after z=-205.5, expected 2.5"]
    kernels = [replace(s, acquisition=("1", f"B{k}", *s.acquisition[2:])) for k, s in enumerate(slices(20))]
    found = reasons(headers(kernels))
    assert len(found) == 4
    assert found[-1] == "and 17 more parts of it, likewise refused"


@pytest.mark.parametrize(("gap", "shift"), [(4.0, 0.3), (2.5, 0.3), (1.25, 0.2)])
def test_jitter_no_reader_could_see_is_allowed_and_told(gap: float, shift: float) -> None:
    n = int(250 / gap)
    stack = [
        replace(s, position=(0.0, 0.0, gap * k + (shift, -shift, 0.0)[k % 3]))
        for k, s in enumerate(slices(n))
    ]
    (series,) = assemble(headers(stack)).series
    assert series.gap == pytest.approx(gap, abs=0.01)
    assert series.notes[0].startswith("Slices lie up to")


@pytest.mark.parametrize("gap", [1.5, 2.5, 3.75])
def test_positions_rounded_to_a_millimetre_are_even(gap: float) -> None:
    stack = [
        replace(s, position=(0.0, 0.0, float(np.floor(gap * k + 0.5))))
        for k, s in enumerate(slices(int(250 / gap)))
    ]
    (series,) = assemble(headers(stack)).series
    assert series.gap == pytest.approx(gap, abs=0.01)


@settings(max_examples=60)
@given(st.floats(0.6, 5.0), st.integers(2, 40), st.integers(0, 2))
def test_a_missing_slice_is_never_allowed(gap: float, missing: int, digits: int) -> None:
    n = max(44, int(150 / gap))
    stack = [
        replace(s, position=(0.0, 0.0, round(gap * k, digits + 1)))
        for k, s in enumerate(slices(n))
        if k != missing
    ]
    assert assemble(headers(stack)).series == ()


def test_slices_of_two_patients_are_no_stack() -> None:
    found = headers(slices(60))
    other = [replace(h, person=Person("b")) for h in found[:5]]
    rest = [replace(h, person=Person("a")) for h in found[5:]]
    assert reasons([*other, *rest]) == ["its slices are of two patients: Patient ID (0010,0020) differs"]


@pytest.mark.parametrize(
    ("position", "text", "lie", "told"),
    [
        ("HFS", "Thorax", "supine", False), ("FFP", "Thorax", "prone", False), ("HFDL", "", "decubitus left", False),
        ("", "HRCT PRONE", "prone", True), ("", "Thorax Bauchlage", "prone", True),
        ("", "décubitus ventral", "prone", True),
        ("", "Tórax decúbito prono", "prone", True), ("", "Thorax Rückenlage", "supine", True),
        ("", "Rt lateral decubitus", "decubitus right", True), ("", "仰卧位", "supine", True),
        ("HFS", "HRCT prone insp", "supine", True), ("HFDR", "decubitus", "decubitus right", False),
        ("", "Thorax", "", False), ("", "Throne", "", False),
    ],
)  # fmt: skip
def test_how_the_patient_lay_is_known_from_the_code_or_from_words(
    position: str, text: str, lie: str, told: bool
) -> None:
    (series,) = assemble(headers(slices(60), text=text, patient_position=position)).series
    assert series.lie == lie
    assert bool(series.notes) == told


def test_localizers_do_not_disturb_their_series() -> None:
    found = headers(slices(60))
    scout = replace(found[0], sop_instance_uid="1.9", slices=(), ignored="localizer")
    assert len(assemble([*found, scout]).series) == 1
    assert reasons([scout]) == ["localizer"]


def test_other_objects_are_no_business_of_ours() -> None:
    seg = replace(headers(slices(1))[0], slices=(), ignored="not CT")
    assert reasons([seg]) == []


@pytest.mark.parametrize(
    ("position", "name"),
    [
        (0, "acquisition"),
        (1, "kernel"),
        (2, "image type"),
        (3, "respiratory phase"),
        (4, "temporal position"),
    ],
)
def test_what_differs_is_never_mixed(position: int, name: str) -> None:
    values = list(slices(1)[0].acquisition)
    values[position] = "50"
    other = slices(60, acquisition=tuple(values))
    found = [*headers(slices(60)), *headers(other, prefix="9")]
    both = assemble(found)
    assert [len(s.slices) for s in both.series] == [60, 60]
    broken = assemble([*found[:60], *found[60:70], *found[71:]])
    assert len(broken.series) == 1
    assert broken.refused[0].reason.startswith(f"{name} 50: slice gap 5.0 mm")


@pytest.mark.parametrize(
    "changes", [{"rows": 256}, {"spacing": (0.5, 0.5)}, {"orientation": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)}]
)
def test_matrices_and_orientations_are_never_mixed(changes: dict[str, Any]) -> None:
    other = slices(60, **changes)
    if "orientation" in changes:
        other = tuple(replace(s, position=(-2.5 * k, 0.0, 0.0)) for k, s in enumerate(other))
    both = assemble([*headers(slices(60)), *headers(other, prefix="9")])
    assert [len(s.slices) for s in both.series] == [60, 60]


def test_comments_separate_repeated_positions() -> None:
    found = [
        *headers(slices(60), texts=("Thorax", "", "Inspiration")),
        *headers(slices(60), prefix="9", texts=("Thorax", "", "Exspiration")),
    ]
    assert sorted(str(s.phase) for s in assemble(found).series) == ["expiration", "inspiration"]


def test_inseparable_repeats_are_refused() -> None:
    found = [*headers(slices(60)), *headers(slices(60), prefix="9")]
    assert reasons(found) == [
        "60 slice positions repeat (first at z=-210.5; Image Position (Patient) (0020,0032)) and nothing tells"
        " the slices apart"
    ]


def test_ten_phases_of_one_series_are_ten_stacks() -> None:
    found = []
    for percent in range(0, 100, 10):
        acquisition = ("1", "B30f", "ORIGINAL\\PRIMARY\\AXIAL", str(percent), "")
        found += headers(slices(60, acquisition=acquisition), prefix=str(percent + 1))
    series = assemble(found).series
    assert len(series) == 10
    phases = {s.slices[0].acquisition[3]: s.phase for s in series if s.phase}
    assert phases == {"0": "inspiration", "50": "expiration"}


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("Thorax Insp 2.0 B70f", "inspiration"),
        ("Thorax Exp 2.0 B70f", "expiration"),
        ("INSP_STD_CHU_COPD", "inspiration"),
        ("EXP_STD_CHU_COPD", "expiration"),
        ("iBHCT 1.25", "inspiration"),
        ("eBHCT 1.25", "expiration"),
        ("CT TLC", "inspiration"),
        ("CT RV 1mm", "expiration"),
        ("CT FRC", "expiration"),
        ("ThoraxInsp", "inspiration"),
        ("Thorax_EXSPIRATION", "expiration"),
        ("Thorax in Exspiration 1.0", "expiration"),
        ("THORAX IN INSPIRATION", "inspiration"),
        ("Poumon inspiration forcée", "inspiration"),
        ("Tórax espiración", "expiration"),
        ("torace inspirazione", "inspiration"),
        ("Lunge Ausatmung", "expiration"),
        ("胸部 呼気", "expiration"),
        ("End-Inspiratory", "inspiration"),
        ("100 In", "inspiration"),
        ("2.0 Ex", "expiration"),
        ("RespLow 2.0 B30s 80 Ex - 100 In", None),
        ("Thorax Insp+Exsp", None),
        ("CT Thorax in 2 mm", None),
        ("Expert in chest", None),
        ("Inspection", None),
        ("ThorRoutine  2.0  D40s", None),
        ("", None),
    ],
)
def test_words_name_the_phase(text: str, phase: str | None) -> None:
    (series,) = assemble(headers(slices(60), text=text)).series
    assert series.phase == phase
    if phase:
        assert text in series.evidence


def test_both_words_are_said_to_be_ambiguous() -> None:
    (series,) = assemble(headers(slices(60), texts=("80 Ex - 100 In", "Insp"))).series
    assert series.phase is None
    assert series.evidence == "SeriesDescription '80 Ex - 100 In' names both phases"


def test_the_stronger_evidence_wins() -> None:
    def phase(**fields: object) -> object:
        return assemble(headers(slices(60), **fields)).series[0].phase  # type: ignore[arg-type]

    assert phase(text="Insp", phase_percent=50.0) == "expiration"
    assert phase(text="Insp", phase_percent=50.0, phase_code="14910006") == "inspiration"
    assert phase(texts=("Thorax", "Exp", "Insp")) == "expiration"
    assert phase(text="Insp", phase_percent=30.0) is None


def test_the_site_may_add_words() -> None:
    rules = PairingRules(inspiration_words=("Fuldt",), expiration_words=("tømt",))
    (series,) = assemble(headers(slices(60), text="Lunger TØMT 1mm"), rules).series
    assert series.phase == "expiration"


def test_several_multi_frame_instances_are_refused() -> None:
    parts = [slices(30), slices(30, start=-135.5)]
    found = [replace(headers(p)[0], sop_instance_uid=f"9.{n}", slices=p) for n, p in enumerate(parts)]
    assert reasons(found) == ["a stack over 2 multi-frame instances is not supported"]


def test_contrast_is_carried() -> None:
    found = headers(slices(60))
    found[7] = replace(found[7], contrast="Iomeron")
    assert assemble(found).series[0].contrast == "Iomeron"
