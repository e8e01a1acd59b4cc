"""A header -> whether its pixels can be decoded and become HU (PS3.3 C.7.6.3, C.8.2.1), before any is read."""

from __future__ import annotations

import re
from collections.abc import Callable

from pydicom import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .attributes import named
from .values import numbers_of, text_of

#: What pixels must say to be decoded (PS3.3 C.7.6.3, C.8.2.1): keyword, what is expected, whether a value is that.
#: Eight bits hold 256 values, too few for the densities of lung.
PIXELS: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("SamplesPerPixel", "1", lambda v: v == "1"),
    (
        "PhotometricInterpretation",
        "MONOCHROME1 or MONOCHROME2",
        lambda v: v in ("MONOCHROME1", "MONOCHROME2"),
    ),
    ("BitsAllocated", "16 or 32", lambda v: v in ("16", "32")),
    ("BitsStored", "10 to 32", lambda v: v.isdigit() and 10 <= int(v) <= 32),
    ("PixelRepresentation", "0 or 1", lambda v: v in ("0", "1")),
)
#: How values become HU: at the root of a single-frame image, in functional groups of others.
RESCALE = "RescaleSlope", "RescaleIntercept"
#: Rescale Type (PS3.3 C.11.1.1.2) that is not HU and says nothing against it.
UNSPECIFIED = "US"
#: Transfer syntaxes in which the length of the pixels follows from the header; also those without any.
NATIVE = ("", ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)

#: Finds the data set that holds an attribute of a frame, by its keyword.
Find = Callable[[str], Dataset]


def unreadable_pixels(ds: Dataset, left: int) -> str:
    """Return the attribute without which pixels cannot be decoded, and what was expected of it; "" for none.

    Parameters
    ----------
    ds : Dataset
    left : int
        Bytes of the file that follow the header.
    """
    for keyword, expected, right in PIXELS:
        if not right(value := text_of(ds, keyword)):
            return f"usable {named(keyword)} ({_shown(value)}, expected {expected})"
    stored, allocated = (int(text_of(ds, k)) for k in ("BitsStored", "BitsAllocated"))
    if stored > allocated:
        return f"usable {named('BitsStored')} ({stored}, expected at most {allocated})"
    syntax = str(getattr(ds, "file_meta", Dataset()).get("TransferSyntaxUID") or "")
    frames, rows, columns = (numbers_of(ds, k, 1) for k in ("NumberOfFrames", "Rows", "Columns"))
    if syntax in NATIVE and rows and columns:
        expected_bytes = int((frames or (1,))[0] * rows[0] * columns[0] * allocated / 8)
        begins = 8 if syntax in ("", ImplicitVRLittleEndian) else 12  # tag, VR and length (PS3.5 7.1)
        if left < begins + expected_bytes:
            found = f"{max(left - begins, 0)} bytes to the end of the file, expected {expected_bytes}"
            return f"whole {named('PixelData')} ({found})"
    return ""


def without_unit(find: Find) -> str:
    """Return the attribute without which a frame's values are no HU, and what was expected of it; "" for none."""
    for keyword in RESCALE:
        values = text_of(find(keyword), keyword).split("\\")
        if len(values) > 1:
            return f"usable {named(keyword)} ({len(values)} values, expected 1)"
        number = numbers_of(find(keyword), keyword, 1)
        if not number or (keyword == "RescaleSlope" and number == (0.0,)):
            return f"usable {named(keyword)} ({_shown(values[0])}, expected a number)"
    unit = _unit(find)
    if unit not in ("", "HU", UNSPECIFIED):
        return f"usable {named('RescaleType')} ({_shown(unit)}, expected HU)"
    return ""


def unit_notes(find: Find) -> tuple[str, ...]:
    """Return what a reader of the result must know of the unit of a frame's values."""
    if _unit(find) != UNSPECIFIED:
        return ()
    return (f"{named('RescaleType')} is {UNSPECIFIED}, unspecified: the values are taken for HU.",)


def _unit(find: Find) -> str:
    return text_of(find("RescaleType"), "RescaleType").upper()


def _shown(value: str) -> str:
    """Return a value of an attribute that holds nothing of the patient, as far as it can be one."""
    return value if re.fullmatch(r"[A-Z0-9_.+-]{1,16}", value) else "absent" if not value else "not readable"
