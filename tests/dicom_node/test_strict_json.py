from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import Rejected
from dicom_node.strict_json import dump, encode, load, read_json, write_json


@dataclass(frozen=True)
class Row:
    name: str
    values: tuple[float, ...]
    limit: float | None


@given(st.builds(Row, st.text(), st.lists(st.floats()).map(tuple), st.none() | st.floats(allow_nan=False)))
def test_whatever_is_written_is_strict_and_comes_back(row: Row) -> None:
    text = dump(row)
    json.loads(text, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    again = load(Row, text)
    assert again.name == row.name
    for ours, theirs in zip(row.values, again.values, strict=True):
        assert ours == theirs or (not math.isfinite(ours) and math.isnan(theirs))


def test_a_file_of_another_schema_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "measures.json"
    write_json(path, "measures 1", {"mean": math.nan})
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {"schema": "measures 1", "mean": None}
    with pytest.raises(Rejected, match="has the schema 'measures 1', expected 'measures 2'"):
        read_json(path, "measures 2")
    path.write_text("{")
    with pytest.raises(Rejected, match="is not JSON"):
        read_json(path, "measures 2")


def test_numbers_of_arrays_are_numbers() -> None:
    np = pytest.importorskip("numpy")
    assert encode({"a": np.float64("nan"), "b": np.float64(1.5)}) == '{"a": null, "b": 1.5}'
