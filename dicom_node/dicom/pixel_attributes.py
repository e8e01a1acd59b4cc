"""A header -> whether its pixels can be decoded and become HU (PS3.3 C.7.6.3, C.8.2.1), before any is read."""

from __future__ import annotations

import re
from collections.abc import Callable

from pydicom import Dataset

from .attributes import named
from .values import numbers_of, text_of

#: What pixels must say to be decoded (PS3.3 C.7.6.3, C.8.2.1): keyword, what is expected, whether a value is that.
PIXELS: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("SamplesPerPixel", "1", lambda v: v == "1"),
    (
        "PhotometricInterpretation",
        "MONOCHROME1 or MONOCHROME2",
        lambda v: v in ("MONOCHROME1", "MONOCHROME2"),
    ),
    ("BitsAllocated", "8, 16 or 32", lambda v: v in ("8", "16", "32")),
    ("BitsStored", "1 to 32", lambda v: v.isdigit() and 1 <= int(v) <= 32),
    ("PixelRepresentation", "0 or 1", lambda v: v in ("0", "1")),
)
#: How values become HU: at the root of a single-frame image, in functional groups of others.
RESCALE = "RescaleSlope", "RescaleIntercept"


def unreadable_pixels(ds: Dataset, single_frame: bool) -> str:
    """The attribute without which pixels cannot be decoded or have no unit, and what was expected of it."""
    for keyword, expected, right in PIXELS:
        if not right(value := text_of(ds, keyword)):
            return f"usable {named(keyword)} ({_shown(value)}, expected {expected})"
    if not single_frame:
        return ""
    for keyword in RESCALE:
        values = text_of(ds, keyword).split("\\")
        if len(values) > 1:
            return f"usable {named(keyword)} ({len(values)} values, expected 1)"
        if not numbers_of(ds, keyword, 1) or (
            keyword == "RescaleSlope" and numbers_of(ds, keyword, 1) == (0.0,)
        ):
            return f"usable {named(keyword)} ({_shown(values[0])}, expected a number)"
    return ""


def _shown(value: str) -> str:
    """A value of an attribute that holds nothing of the patient, as far as it can be one."""
    return value if re.fullmatch(r"[A-Z0-9_.+-]{1,16}", value) else "absent" if not value else "not readable"
