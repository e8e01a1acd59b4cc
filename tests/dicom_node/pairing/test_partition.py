"""Which slices of a series belong together, where a scanner or an archive made it harder than it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from made import headers, slices

from dicom_node.model import Header, Pair, PairingRules, Slice
from dicom_node.pairing.pairing import NoPair, pair
from dicom_node.pairing.stacks import assemble


def without(s: Slice, position: int) -> Slice:
    values = list(s.acquisition)
    values[position] = ""
    return replace(s, acquisition=tuple(values))


@pytest.mark.parametrize("position", [1, 3], ids=["kernel", "respiratory phase"])
def test_a_slice_that_leaves_out_its_kernel_or_phase_belongs_to_the_only_one(position: int) -> None:
    values = ("1", "B30f", "ORIGINAL\\PRIMARY\\AXIAL", "50", "")
    stack = slices(60, acquisition=values)
    found = assemble(headers(without(s, position) if k in (0, 30) else s for k, s in enumerate(stack)))
    assert [len(s.slices) for s in found.series] == [60]
    assert found.refused == ()
    assert (found.series[0].kernel, found.series[0].phase) == ("B30f", "expiration")


def test_a_few_slices_that_came_twice_count_once_and_are_told() -> None:
    found = headers(slices(60), acquired="20260101")
    again = [replace(h, sop_instance_uid=f"9.{n}") for n, h in enumerate(found[30:33])]
    again = [replace(h, slices=(replace(h.slices[0], sop_instance_uid=h.sop_instance_uid),)) for h in again]
    assembled = assemble([*found, *again])
    (series,) = assembled.series
    assert len(series.slices) == 60
    assert series.notes == (
        "Left out: 3 slices that came twice under different SOP Instance UID (0008,0018), first at z=-135.5.",
    )


@pytest.mark.parametrize(
    "change", [{"acquired": "20260102"}, {"texts": ("other",)}], ids=["another time", "another text"]
)
def test_slices_of_another_time_at_the_same_place_are_not_the_same(change: dict[str, Any]) -> None:
    found = headers(slices(60), acquired="20260101")
    other = [
        replace(
            h, sop_instance_uid=f"9.{n}", slices=(replace(h.slices[0], sop_instance_uid=f"9.{n}"),), **change
        )
        for n, h in enumerate(found[30:33])
    ]
    assembled = assemble([*found, *other])
    assert all("came twice" not in note for s in assembled.series for note in s.notes)


def test_a_place_is_named_along_the_stack() -> None:
    sagittal = slices(60, orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
    stack = [replace(s, position=(-2.5 * k, 0.0, 7.0)) for k, s in enumerate(sagittal) if k != 20]
    (refused,) = assemble(headers(stack)).refused
    assert refused.reason == "slice gap 5.0 mm after x=-47.5, expected 2.5"
    assert refused.incomplete


def series(uid: str, found: tuple[Slice, ...]) -> list[Header]:
    return headers(found, uid, prefix=uid, acquired="20260101090000")


def test_a_reformat_of_one_breath_is_no_other_breath() -> None:
    coronal = slices(60, orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
    coronal = tuple(replace(s, position=(0.0, 2.5 * k, 0.0)) for k, s in enumerate(coronal))
    decision = pair(assemble([*series("1", slices(60)), *series("1", coronal)]), PairingRules())
    assert isinstance(decision, NoPair)


@pytest.mark.parametrize(
    ("percents", "expected"),
    [
        ((0, 20, 40, 60, 80), ("0", "40")),
        ((5, 20, 35, 50, 65, 80), ("5", "50")),
        ((10, 30, 50, 70, 90), ("10", "50")),
        ((0, 14.3, 28.6, 42.9, 57.1, 71.4, 85.7), ("0", "42.9")),
    ],
)
def test_the_phases_nearest_to_the_ends_of_a_breath_are_proposed(
    percents: tuple[float, ...], expected: tuple[str, str]
) -> None:
    found = [
        h
        for share in percents
        for h in headers(slices(60), f"1.{share:g}", prefix=f"{share:g}", text=f"Gated, {share:g}%")
    ]
    decision = pair(assemble(found), PairingRules())
    assert isinstance(decision, Pair)
    names = tuple(s.series_instance_uid[2:] for s in (decision.inspiratory, decision.expiratory))
    assert names == expected


def test_two_percentages_are_no_4d_study() -> None:
    found = [h for share in (0, 40) for h in headers(slices(60), f"1.{share}", text=f"Gated, {share}%")]
    assert isinstance(pair(assemble(found), PairingRules()), NoPair)
