from __future__ import annotations

import pytest

from analysis.measures.kernels import kernel_class, kernels_in_words

SOFT = [
    "B20f",
    "B30f",
    "B31s",
    "B40f",
    "B45f",
    "Br40d\\3",
    "Bv49d",
    "I31f\\2",
    "Qr40",
    "STANDARD",
    "SOFT",
    "HD STANDARD",
]
SOFT += ["SOFT", "B", "C", "FC01", "FC03", "FC13", "FC17", "B_SOFT_B"]
SHARP = [
    "B50f",
    "B60f",
    "B70f",
    "B80f",
    "Bl57d",
    "Br64d\\3",
    "I70f\\3",
    "Hr60f",
    "U90u",
    "LUNG",
    "BONE",
    "BONEPLUS",
]
SHARP += [
    "EDGE",
    "DETAIL",
    "HD LUNG",
    "L",
    "YA",
    "YB",
    "YC",
    "D",
    "FC07",
    "FC30",
    "FC51",
    "FC52",
    "FC86",
    "B_VSHARP_B",
]


@pytest.mark.parametrize("name", SOFT)
def test_a_soft_kernel_is_soft_however_it_is_written(name: str) -> None:
    assert {kernel_class(spelt) for spelt in (name, name.lower(), f" {name} ")} == {"soft"}


@pytest.mark.parametrize("name", SHARP)
def test_a_kernel_that_enhances_edges_is_sharp_and_is_never_called_smooth(name: str) -> None:
    assert {kernel_class(spelt) for spelt in (name, name.lower(), f" {name} ")} == {"sharp"}
    warn, words = kernels_in_words((name, name))
    assert warn
    assert "smooth" not in words
    assert name in words


def test_what_is_not_in_the_table_is_said_to_be_unknown_not_smooth() -> None:
    assert kernel_class("X-filter") == kernel_class("") == "unknown"
    assert kernels_in_words(("X-filter", "X-filter")) == (
        False,
        "both phases share the kernel X-filter, which is not in the table of kernels",
    )
    assert kernels_in_words(("", "B30f")) == (False, "the header names no kernel for both phases: B30f")


def test_two_kernels_are_a_warning_though_both_are_soft() -> None:
    assert kernels_in_words(("B30f", "B31f"))[0]
    assert not kernels_in_words(("B30f", "b30f"))[0]
