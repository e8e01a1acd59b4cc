"""A study without a pair finds its other phase in another study, unless images still to come may bring it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from made import headers, slices

from dicom_node.model import Header, Pair, PairingRules, Person
from dicom_node.pairing.pairing import NoPair
from dicom_node.studies.between import Asked, pair_between

RULES = PairingRules()


def series(
    study: str, text: str, minute: int, *, n: int = 60, without: int = -1, patient: str = "a"
) -> list[Header]:
    """A breath-hold of a study; some slice of it may be missing, or all but the first `n`."""
    found = [s for k, s in enumerate(slices(n)) if k != without]
    about = {"study_instance_uid": study, "person": Person(patient), "device": "Make 1"}
    uid = f"{study}.{minute}"
    return headers(found, uid, prefix=uid, text=text, acquired=f"2026010109{minute:02d}00", **about)


def localizer(study: str) -> list[Header]:
    (one,) = series(study, "Topogram", 1, n=1)
    return [replace(one, series_instance_uid=f"{study}.9", slices=(), ignored="localizer")]


def found(
    studies: dict[str, list[Header]], *, overdue: bool = False, joined: Sequence[str] = ()
) -> Pair | NoPair | None:
    def read(uid: str, limit: int | None) -> list[Header]:
        return studies[uid][:limit]

    asked = Asked("1", [uid for uid in studies if uid != "1"], joined, overdue)
    return pair_between(asked, read, RULES, {})


def test_a_localizer_in_each_study_keeps_no_pair_apart() -> None:
    one = [*localizer("1"), *series("1", "Insp", 2)]
    other = [*series("2", "Exp", 4), *localizer("2")]
    assert isinstance(found({"1": one, "2": other}), Pair)


@pytest.mark.parametrize("words", ["Exp", "Thorax"])
@pytest.mark.parametrize("odd", [{"without": 30}, {"n": 12}, {"n": 30}], ids=["a gap", "begun", "short"])
def test_the_missing_phase_is_waited_for_while_its_images_may_come(words: str, odd: dict[str, Any]) -> None:
    one = [*series("1", "Insp", 2), *series("1", words, 3, **odd)]
    other = series("2", "Exp", 4)
    assert found({"1": one, "2": other}) is None
    late = found({"1": one, "2": other}, overdue=True)
    assert isinstance(late, Pair)
    assert late.expiratory.study_instance_uid == "2"


def test_the_other_study_may_be_the_incomplete_one() -> None:
    other = [*series("2", "Insp", 2), *series("2", "Exp", 3, without=30)]
    assert found({"1": series("1", "Exp", 4), "2": other}) is None
    assert isinstance(found({"1": series("1", "Exp", 4), "2": other}, overdue=True), Pair)


@pytest.mark.parametrize("odd", [{"without": 30}, {"n": 2}], ids=["its own phase", "a test of the contrast"])
def test_what_cannot_become_the_missing_phase_is_not_waited_for(odd: dict[str, Any]) -> None:
    words = "Insp sharp" if "without" in odd else "Premonitoring"
    one = [*series("1", "Insp", 2), *series("1", words, 3, **odd)]
    assert isinstance(found({"1": one, "2": series("2", "Exp", 4)}), Pair)


def test_an_operator_is_not_kept_waiting() -> None:
    one = [*series("1", "Insp", 2), *series("1", "Exp", 3, without=30)]
    assert isinstance(found({"1": one, "2": series("2", "Exp", 50)}, joined=["2"]), Pair)
    stranger = found({"1": one, "2": series("2", "Exp", 50, patient="b")}, joined=["2"])
    assert isinstance(stranger, NoPair)
    assert stranger.people
