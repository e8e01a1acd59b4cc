"""Lung labels -> regions: the whole lung, left, right, and upper, middle and lower zone of each."""

from __future__ import annotations

from collections.abc import Mapping

#: name of a region -> words for a report; the order is the order of reports.
REGIONS: Mapping[str, str] = {
    "lungs": "Both lungs",
    "right": "Right lung",
    "left": "Left lung",
    "right_upper": "Right upper zone",
    "right_middle": "Right middle zone",
    "right_lower": "Right lower zone",
    "left_upper": "Left upper zone",
    "left_middle": "Left middle zone",
    "left_lower": "Left lower zone",
}
