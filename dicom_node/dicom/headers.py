"""A stored file -> Header, what the node decides with; never pixels (the only reader of headers)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.valuerep import PersonName

from ..errors import Rejected
from ..model import Header, Person, Slice
from .attributes import is_uid, named
from .decoding_limits import TooMuch, check_inflated
from .malformed import MALFORMED
from .transfer_syntaxes import syntax_problem

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.2"
CT_CLASSES = frozenset({CT_IMAGE, ENHANCED_CT, LEGACY_ENHANCED_CT})

#: Manufacturer of our own results (the loop guard).
OWN_MANUFACTURER = "vq-dicom-node"

TAGS = [
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate",
    "FrameOfReferenceUID", "ManufacturerModelName", "DeviceSerialNumber", "ImageType", "SOPClassUID",
    "SOPInstanceUID", "Modality", "Manufacturer",
    "SeriesDescription", "ProtocolName", "ImageComments", "BodyPartExamined", "PatientPosition",
    "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "AcquisitionNumber",
    "AcquisitionContextSequence", "StudyInstanceUID", "SeriesInstanceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept", "SliceThickness", "ConvolutionKernel", "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "GantryDetectorTilt", "TemporalPositionIdentifier", "TemporalPositionIndex",
    "NominalPercentageOfRespiratoryPhase", "NumberOfFrames",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip

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

#: Where a phase may be named in words.
TEXTS = ("SeriesDescription", "ProtocolName", "ImageComments", "ImageType")

#: Codes of Acquisition Context items (CID 3823, 3337; SCT, its old SRT form, DCM) -> the code of the phase.
PHASE_CODES = {
    "14910006": "14910006", "F-20010": "14910006", "109024": "14910006",
    "58322009": "58322009", "F-20020": "58322009", "109023": "58322009",
}  # fmt: skip

NO_CONTRAST = frozenset(
    {"", "NONE", "NO", "NO CONTRAST", "WITHOUT", "NATIV", "NATIVE", "NIL", "0", "N", "N/A", "NA"}
)


def read_header(path: Path) -> Header:
    """Read what the node needs to know of one stored instance.

    Malformed, missing and multi-valued attributes are tolerated wherever the rest still makes sense.

    Parameters
    ----------
    path : Path
        A DICOM file (PS3.10), with or without preamble.

    Returns
    -------
    Header
        With ``ignored`` set, and without slices, where the instance is not a CT image that could be part of a pair.

    Raises
    ------
    Rejected
        Where the file is not DICOM or lacks the UIDs that identify it.
    OSError
        Where the disk fails.
    """
    try:
        return _header(path, _read(path))
    except OSError as error:
        if error.errno is not None:
            raise
        # pydicom raises this for a sequence whose bytes are not DICOM
        raise Rejected(f"SOP instance {_name(path)} cannot be read: {error}") from error


def _header(path: Path, ds: Dataset) -> Header:
    uids = {
        k: _text(ds, k) for k in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    }
    for keyword, value in uids.items():
        if not value:
            raise Rejected(f"SOP instance {_name(path, uids['SOPInstanceUID'])} lacks its {named(keyword)}")
        if not is_uid(value):
            name = _name(path, "" if keyword == "SOPInstanceUID" else uids["SOPInstanceUID"])
            raise Rejected(f"SOP instance {name} cannot be read: its {named(keyword)} is no UID")
    slices, ignored = _slices(ds, uids["SOPClassUID"], uids["SOPInstanceUID"])
    percent = _numbers(ds, "NominalPercentageOfRespiratoryPhase", 1)
    return Header(
        uids["SOPClassUID"], uids["SOPInstanceUID"], uids["SeriesInstanceUID"], uids["StudyInstanceUID"],
        modality=_text(ds, "Modality"),
        slices=slices,
        texts=tuple(_text(ds, k) for k in TEXTS),
        phase_code=_phase_code(ds),
        phase_percent=percent[0] if percent else None,
        kernel=slices[0].acquisition[1] if slices else _text(ds, "ConvolutionKernel"),
        contrast=_contrast(ds),
        gantry_tilt=(_numbers(ds, "GantryDetectorTilt", 1) or (0.0,))[0],
        body_part=_text(ds, "BodyPartExamined"),
        acquired=_text(ds, "AcquisitionDateTime")
        or _text(ds, "AcquisitionDate") + _text(ds, "AcquisitionTime"),
        patient_position=_text(ds, "PatientPosition"),
        ignored=ignored,
        person=_person(ds),
        frame_of_reference=_text(ds, "FrameOfReferenceUID"),
        device=" ".join(_text(ds, k) for k in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber")).strip(),
    )  # fmt: skip


def _person(ds: Dataset) -> Person:
    """Return digests of who the patient is; padding, a name's case, accents and empty components do not matter."""

    def digest(text: str) -> str:
        return sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""

    patient_id, issuer, birth_date = (
        digest(_text(ds, k).strip()) for k in ("PatientID", "IssuerOfPatientID", "PatientBirthDate")
    )
    return Person(patient_id, issuer, birth_date, digest(_plain_name(_text(ds, "PatientName"))))


def _plain_name(name: str) -> str:
    """Return family and given name of the first component group present; "ä" and "ae" become the same.

    Examples
    --------
    >>> _plain_name("MÜLLER^Hans^^Dr.") == _plain_name("Mueller^Hans ")
    True
    """
    group = next((g for g in name.split("=") if g.strip("^ ")), "")
    parts = [" ".join(part.split()) for part in group.split("^")[:2]]
    folded = unicodedata.normalize("NFKD", "^".join(parts).rstrip("^")).casefold()
    plain = "".join(c for c in folded if not unicodedata.combining(c))
    return re.sub("([aou])e", r"\1", plain)


def _read(path: Path) -> Dataset:
    with path.open("rb") as file:
        start = file.read(132)
    # Without a preamble only a file that begins with an element of group 0002 or 0008 is taken for DICOM.
    bare = start[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08")
    if start[128:132] != b"DICM" and not bare:
        raise Rejected(f"SOP instance {_name(path)} is not a DICOM file")
    try:
        check_inflated(path)
        ds = dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
        if problem := syntax_problem(path, ds):
            raise Rejected(f"SOP instance {_name(path)} cannot be read: {problem}")
        return ds
    except TooMuch as error:
        raise Rejected(f"SOP instance {_name(path)} cannot be read: {error}") from error
    except MALFORMED as error:
        raise Rejected(f"SOP instance {_name(path)} cannot be read: {type(error).__name__}") from error


def _name(path: Path, otherwise: str = "") -> str:
    """Return the file's name if it is a UID; other names may hold a patient's name and are not repeated."""
    return path.stem if re.fullmatch(r"[0-9.]{8,64}", path.stem) else otherwise or "of unknown UID"


def _value(ds: Dataset, keyword: str) -> Any:
    try:
        return ds.get(keyword)
    except MALFORMED:
        return None


def _text(ds: Dataset, keyword: str) -> str:
    value = _value(ds, keyword)
    if value is None:
        return ""
    several = isinstance(value, Iterable) and not isinstance(value, (str, bytes, PersonName))
    values = value if several else [value]
    return "\\".join(str(v).strip("\0 ") for v in values)


def _numbers(ds: Dataset, keyword: str, n: int) -> tuple[float, ...]:
    """Return the n finite numbers of an attribute (n = 1: the first), or () where there are not exactly n."""
    parts = _text(ds, keyword).split("\\")
    try:
        values = tuple(float(p) for p in (parts[:1] if n == 1 else parts))
    except ValueError:
        return ()
    return values if len(values) == n and all(abs(v) < 1e9 for v in values) else ()


def _items(ds: Dataset, keyword: str) -> list[Dataset]:
    value = _value(ds, keyword)
    try:
        return [item for item in value or [] if isinstance(item, Dataset)]
    except MALFORMED:
        return []


def _slices(ds: Dataset, sop_class_uid: str, sop_instance_uid: str) -> tuple[tuple[Slice, ...], str]:
    """Return the slices of an instance, or why it has none."""
    if sop_class_uid not in CT_CLASSES:
        return (), "not CT"
    if _text(ds, "Manufacturer") == OWN_MANUFACTURER:
        return (), "our own result"
    if sop_class_uid == CT_IMAGE:
        return _slice_of(sop_instance_uid, 1, lambda _: ds, ds)
    shared = (_items(ds, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = _items(ds, "PerFrameFunctionalGroupsSequence")
    read = [
        _slice_of(sop_instance_uid, n, _groups(ds, shared, frame), ds) for n, frame in enumerate(frames, 1)
    ]
    broken = next((why for _, why in read if why.startswith("no ")), "")
    slices = tuple(s for found, _ in read for s in found)
    if broken or not slices:
        return (), broken or (read[0][1] if read else "no frames")
    return slices, ""


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
}  # fmt: skip

Find = Callable[[str], Dataset]


def _groups(ds: Dataset, shared: Dataset, frame: Dataset) -> Find:
    """Find the item that holds an attribute: the frame's functional group, the shared one, or the root."""

    def find(keyword: str) -> Dataset:
        for group in GROUPS.get(keyword, ()):
            for macro in (frame, shared):
                for item in _items(macro, group):
                    if keyword in item:
                        return item
        return ds

    return find


def _slice_of(sop_instance_uid: str, n: int, find: Find, ds: Dataset) -> tuple[tuple[Slice, ...], str]:
    image_type = _text(find("FrameType"), "FrameType") or _text(ds, "ImageType")
    if unfit := _unfit(image_type.split("\\")):
        return (), unfit
    geometry = {
        k: _numbers(find(k), k, n)
        for k, n in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2),
                     ("Rows", 1), ("Columns", 1))
    }  # fmt: skip
    lacking = [k for k, v in geometry.items() if not v]
    if lacking:
        return (
            (),
            f"no {named(lacking[0])} in SOP instance {sop_instance_uid}, expected {EXPECTED[lacking[0]]}",
        )
    if n == 1 and (unusable := _unreadable_pixels(ds)):
        return (), f"no {unusable} in SOP instance {sop_instance_uid}"
    position, orientation, spacing, rows, columns = geometry.values()
    thickness = _numbers(find("SliceThickness"), "SliceThickness", 1)
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


#: Attributes that must give a slice's position and orientation -> what messages say is expected.
EXPECTED = {
    "ImagePositionPatient": "3 numbers", "ImageOrientationPatient": "6 numbers", "PixelSpacing": "2 numbers",
    "Rows": "1 number", "Columns": "1 number",
}  # fmt: skip
#: Attributes needed to decode pixels (PS3.3 C.7.6.3, C.8.2.1): keyword, what is expected, and a test of the value.
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


def _unreadable_pixels(ds: Dataset) -> str:
    """Return which attribute keeps pixels from being decoded or given a unit, and what was expected of it."""
    for keyword, expected, right in PIXELS:
        if not right(value := _text(ds, keyword)):
            return f"usable {named(keyword)} ({_shown(value)}, expected {expected})"
    if _text(ds, "SOPClassUID") != CT_IMAGE:
        return ""
    for keyword in RESCALE:
        values = _text(ds, keyword).split("\\")
        if len(values) > 1:
            return f"usable {named(keyword)} ({len(values)} values, expected 1)"
        if not _numbers(ds, keyword, 1) or (keyword == "RescaleSlope" and _numbers(ds, keyword, 1) == (0.0,)):
            return f"usable {named(keyword)} ({_shown(values[0])}, expected a number)"
    return ""


def _shown(value: str) -> str:
    """Return a value for a message, if it looks like a value of an attribute that holds no patient data."""
    return value if re.fullmatch(r"[A-Z0-9_.+-]{1,16}", value) else "absent" if not value else "not readable"


def _acquisition(find: Find, ds: Dataset, image_type: str) -> tuple[str, ...]:
    """Return the values that slices of one stack must share, in the order of `model.ACQUISITION`."""

    def first(*keywords: str) -> str:
        return next((t for k in keywords if (t := _text(find(k), k))), "")

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


def _phase_code(ds: Dataset) -> str:
    """Return the phase that Acquisition Context items code (PS3.3 C.7.6.14); "" for none or for both."""
    found = {
        PHASE_CODES[code]
        for item in _items(ds, "AcquisitionContextSequence")
        for concept in _items(item, "ConceptCodeSequence")
        if (code := _text(concept, "CodeValue")) in PHASE_CODES
    }
    return found.pop() if len(found) == 1 else ""


def _contrast(ds: Dataset) -> str:
    agents = [_text(item, "CodeMeaning") for item in _items(ds, "ContrastBolusAgentSequence")]
    agent = _text(ds, "ContrastBolusAgent") or next((a for a in agents if a), "")
    return "" if agent.upper() in NO_CONTRAST else agent
