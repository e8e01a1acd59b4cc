"""A number -> its text, with no digit that it does not carry: by its uncertainty, or else by what its unit is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")
#: Decimals of a measure in a UCUM unit: what repeated scans of a lung could tell apart, and no more.
DECIMALS: Mapping[str, int] = {
    "%": 1, "ml": 0, "g": 0, "[hnsf'U]": 0, "mm": 2, "1": 2, "ml/ml": 2, "ml/g": 2, "g/ml": 4,
}  # fmt: skip
#: What people read for a UCUM unit, where it is not the unit's own code.
UNIT_WORDS: Mapping[str, str] = {"1": "", "[hnsf'U]": "HU", "cm2": "cm²"}


def sd_of(row: Mapping[str, T], name: str) -> T | None:
    """Return a measure's standard uncertainty, where it has one; of normal lung that of the total abnormal, its rest.

    Examples
    --------
    >>> row = {"shunt_sd": 1.7, "total_abnormal_sd": 2.4}
    >>> sd_of(row, "shunt"), sd_of(row, "normal"), sd_of(row, "volume_exp")
    (1.7, 2.4, None)
    """
    return row.get("total_abnormal_sd" if name == "normal" else f"{name}_sd")


def carried(value: float, unit: str, sd: float | None = None) -> float:
    """Return a value rounded to the digits it carries.

    Parameters
    ----------
    value : float
    unit : str
        UCUM.
    sd : float, optional
        Its standard uncertainty: its first digit is the last that the value carries.

    Examples
    --------
    >>> carried(0.0116734, "%"), carried(27.34, "%", 3.2), carried(27.34, "%", 0.31)
    (0.0, 27.0, 27.3)
    """
    return round(value, _decimals(unit, sd)) + 0.0


def text_of(value: float | None, unit: str, sd: float | None = None) -> str:
    """Return the text of `carried`; a dash where there is no value.

    Examples
    --------
    >>> text_of(-712.4, "[hnsf'U]"), text_of(12.04, "%", 0.3), text_of(None, "%")
    ('-712', '12.0', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    return f"{carried(value, unit, sd):.{max(0, _decimals(unit, sd))}f}"


def firm_text(row: Mapping[str, float], name: str, ascii_only: bool = False) -> str:
    """Return a fraction with its standard uncertainty and its range over the thresholds 0.50 to 0.75, percent.

    Parameters
    ----------
    row : mapping of measure to float
        Of one region.
    name : str
        Of `table.FIRM`.
    ascii_only : bool
        For texts whose reader may know no character set.

    Examples
    --------
    >>> firm_text({"shunt": 12.34, "shunt_sd": 1.7, "shunt_50": 8.1, "shunt_75": 19.6}, "shunt", ascii_only=True)
    '12 +/- 2 % (8-20 %)'
    """
    plus, dash = ("+/-", "-") if ascii_only else ("±", "–")
    sd = sd_of(row, name)
    known = sd if sd is not None and math.isfinite(sd) and sd > 0 else None
    words = text_of(row.get(name), "%", known)
    if known is not None:
        words += f" {plus} {text_of(known, '%', known)}"
    low, high = (text_of(row.get(f"{name}_{at}"), "%", known) for at in ("50", "75"))
    ranged = any(math.isfinite(row.get(f"{name}_{at}", math.nan)) for at in ("50", "75"))
    return f"{words} % ({low}{dash}{high} %)" if ranged else f"{words} %"


def _decimals(unit: str, sd: float | None) -> int:
    most = DECIMALS.get(unit, 2)
    if sd is None or not math.isfinite(sd) or sd <= 0:
        return most
    # 0.95 is written as 1, so its digit is that of 1
    return min(most, max(0, -math.floor(math.log10(sd) + 0.0223)))
