"""Attributes of a data set of any bytes -> texts and numbers, or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydicom import Dataset
from pydicom.valuerep import PersonName

from .malformed import MALFORMED


def value_of(ds: Dataset, keyword: str) -> Any:
    """The value pydicom makes of an attribute; None where it is absent or malformed."""
    try:
        return ds.get(keyword)
    except MALFORMED:
        return None


def text_of(ds: Dataset, keyword: str) -> str:
    """The values of an attribute without padding, joined by backslashes; "" where there are none."""
    value = value_of(ds, keyword)
    if value is None:
        return ""
    several = isinstance(value, Iterable) and not isinstance(value, (str, bytes, PersonName))
    values = value if several else [value]
    return "\\".join(str(v).strip("\0 ") for v in values)


def numbers_of(ds: Dataset, keyword: str, n: int) -> tuple[float, ...]:
    """The n finite numbers of an attribute (n = 1: the first), or nothing where there are not exactly n."""
    parts = text_of(ds, keyword).split("\\")
    try:
        values = tuple(float(p) for p in (parts[:1] if n == 1 else parts))
    except ValueError:
        return ()
    return values if len(values) == n and all(abs(v) < 1e9 for v in values) else ()


def items_of(ds: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or malformed."""
    value = value_of(ds, keyword)
    try:
        return [item for item in value or [] if isinstance(item, Dataset)]
    except MALFORMED:
        return []
