"""docs/method.md says what every number and every choice is."""

from dataclasses import fields
from pathlib import Path

from analysis.measures.table import MEASURES
from analysis.parameters import Parameters
from analysis.vq.ventilation import VENTILATIONS

METHOD = (Path(__file__).parents[3] / "docs" / "method.md").read_text(encoding="utf-8")


def test_every_measure_has_its_formula() -> None:
    assert [name for name in MEASURES if f"`{name}`" not in METHOD] == []


def test_every_parameter_is_explained() -> None:
    assert [f.name for f in fields(Parameters) if f"`{f.name}`" not in METHOD] == []


def test_every_ventilation_has_its_formula() -> None:
    assert [name for name in VENTILATIONS if f"`{name}`" not in METHOD] == []
