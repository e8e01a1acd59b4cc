"""The header of a CT instance -> its slices, in the order of its frames, or why it has none (PS3.3 A.3, A.38, A.70)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from pydicom import Dataset

from ..model import Slice
from .attributes import named
from .part10 import MANUFACTURER
from .pixel_attributes import Find, unit_notes, unreadable_pixels, without_unit
from .uids import CT_CLASSES, CTImageStorage
from .values import items_of, numbers_of, text_of

#: Words of Image Type (0008,0008) that make an image unfit for densities -> what such an image is.
UNFIT = {
    "LOCALIZER": "localizer", "SCOUT": "localizer", "TOPOGRAM": "localizer",
    "MPR": "derived image", "REFORMATTED": "derived image", "RESAMPLED": "derived image",
    "CPR": "derived image",
    "MIP": "derived image", "MAXIP": "derived image", "MAX_IP": "derived image", "MAXIMUM": "derived image",
    "MINIP": "derived image", "MIN_IP": "derived image", "MINIMUM": "derived image",
    "AVERAGE": "derived image",
    "PROJECTION IMAGE": "derived image", "VRT": "derived image", "SSD": "derived image",
    "SUBTRACTION": "derived image", "PERFUSION": "derived image", "SCREEN SAVE": "derived image",
    "IODINE": "derived image", "MONOENERGETIC": "derived image", "VNC": "derived image",
    "EVIDENCE": "derived image", "DOSE_INFO": "dose report",
}  # fmt: skip


def slices_of(
    ds: Dataset, sop_class_uid: str, sop_instance_uid: str, left: int
) -> tuple[tuple[Slice, ...], str, tuple[str, ...]]:
    """Return the slices of an instance, or why it has none; and what a reader of the result must know of them."""
    if sop_class_uid not in CT_CLASSES:
        return (), "not CT", ()
    if text_of(ds, "Manufacturer") == MANUFACTURER:
        return (), "our own result", ()
    if sop_class_uid == CTImageStorage:
        one, why = _slice_of(sop_instance_uid, 1, lambda _: ds, ds, left)
        return one, why, unit_notes(lambda _: ds) if one else ()
    shared = (items_of(ds, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = items_of(ds, "PerFrameFunctionalGroupsSequence")
    read = [
        _slice_of(sop_instance_uid, n, _groups(ds, shared, frame), ds, left)
        for n, frame in enumerate(frames, 1)
    ]
    broken = next((why for _, why in read if why.startswith("no ")), "")
    slices = tuple(s for found, _ in read for s in found)
    if broken or not slices:
        return (), broken or (read[0][1] if read else "no frames"), ()
    return slices, "", unit_notes(_groups(ds, shared, frames[0]))


#: Where the Enhanced CT keeps what the CT Image has at its root (PS3.3 A.38, A.70).
GROUPS = {
    "ImagePositionPatient": ("PlanePositionSequence",),
    "ImageOrientationPatient": ("PlaneOrientationSequence",),
    "PixelSpacing": ("PixelMeasuresSequence",),
    "SliceThickness": ("PixelMeasuresSequence",),
    "FrameType": ("CTImageFrameTypeSequence",),
    "ConvolutionKernel": ("CTReconstructionSequence", "UnassignedPerFrameConvertedAttributesSequence",
                          "UnassignedSharedConvertedAttributesSequence"),
    "FrameAcquisitionNumber": ("FrameContentSequence",),
    "TemporalPositionIndex": ("FrameContentSequence",),
    "NominalPercentageOfRespiratoryPhase": ("RespiratorySynchronizationSequence",),
    "RescaleSlope": ("PixelValueTransformationSequence",),
    "RescaleIntercept": ("PixelValueTransformationSequence",),
    "RescaleType": ("PixelValueTransformationSequence",),
}  # fmt: skip


def _groups(ds: Dataset, shared: Dataset, frame: Dataset) -> Find:
    """Find the item that holds an attribute: the frame's functional group, the shared one, or the root."""

    def find(keyword: str) -> Dataset:
        for group in GROUPS.get(keyword, ()):
            for macro in (frame, shared):
                for item in items_of(macro, group):
                    if keyword in item:
                        return item
        return ds

    return find


def _slice_of(
    sop_instance_uid: str, n: int, find: Find, ds: Dataset, left: int
) -> tuple[tuple[Slice, ...], str]:
    image_type = text_of(find("FrameType"), "FrameType") or text_of(ds, "ImageType")
    if unfit := _unfit(image_type.split("\\")):
        return (), unfit
    geometry = []
    for keyword, count, expected, right in GEOMETRY:
        values = numbers_of(find(keyword), keyword, count)
        if not values or not right(values):
            usable = "usable " if values else ""
            return (), f"no {usable}{named(keyword)} in SOP instance {sop_instance_uid}, expected {expected}"
        geometry.append(values)
    if unusable := (unreadable_pixels(ds, left) if n == 1 else "") or without_unit(find):
        return (), f"no {unusable} in SOP instance {sop_instance_uid}"
    position, orientation, spacing, rows, columns = geometry
    thickness = numbers_of(find("SliceThickness"), "SliceThickness", 1)
    return (
        Slice(
            sop_instance_uid, n,
            (position[0], position[1], position[2]),
            (orientation[0], orientation[1], orientation[2], orientation[3], orientation[4], orientation[5]),
            (spacing[0], spacing[1]), int(rows[0]), int(columns[0]),
            thickness[0] if thickness else None,
            _acquisition(find, ds, image_type),
        ),
    ), ""  # fmt: skip


def _perpendicular(values: Sequence[float]) -> bool:
    """Return whether six numbers are, but for rounding, two perpendicular directions."""
    row, column = values[:3], values[3:]
    lengths = [math.hypot(*v) for v in (row, column)]
    across = sum(a * b for a, b in zip(row, column, strict=True))
    return all(abs(length - 1) < ROUNDED for length in lengths) and abs(across) < ROUNDED


def _positive(values: Sequence[float]) -> bool:
    return all(v > 0 for v in values)


#: Tolerance of direction cosines: senders round them, some to two decimals.
ROUNDED = 0.03
#: What gives a slice's place (PS3.3 C.7.6.2): keyword, number of values, what is expected, whether values are that.
GEOMETRY: tuple[tuple[str, int, str, Callable[[Sequence[float]], bool]], ...] = (
    ("ImagePositionPatient", 3, "3 numbers", lambda _: True),
    ("ImageOrientationPatient", 6, "6 numbers: two perpendicular directions", _perpendicular),
    ("PixelSpacing", 2, "2 numbers above 0", _positive),
    ("Rows", 1, "1 number above 0", _positive),
    ("Columns", 1, "1 number above 0", _positive),
)


def _acquisition(find: Find, ds: Dataset, image_type: str) -> tuple[str, ...]:
    """Return the values that slices of one stack must share, in the order of `model.ACQUISITION`."""

    def first(*keywords: str) -> str:
        return next((t for k in keywords if (t := text_of(find(k), k))), "")

    return (
        first("FrameAcquisitionNumber", "AcquisitionNumber"),
        first("ConvolutionKernel"),
        image_type,
        first("NominalPercentageOfRespiratoryPhase"),
        first("TemporalPositionIndex", "TemporalPositionIdentifier"),
    )


def _unfit(image_type: list[str]) -> str:
    """Return why an Image Type is not used: a word of `UNFIT`, or DERIVED without being a plain reconstruction.

    Some scanners call thick or iterative reconstructions DERIVED: those keep AXIAL or VOLUME as value 3.
    """
    words = [v.upper().strip() for v in image_type]
    for value in words[2:]:
        for word in (value, *re.split(r"[ /]+", value)):
            if word in UNFIT:
                return UNFIT[word]
    if words and words[0] == "DERIVED" and not {"AXIAL", "VOLUME"} & set(words[2:3]):
        return "derived image"
    return ""
