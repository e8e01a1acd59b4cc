"""A stored file -> Header, what the node decides with; never pixels (the only reader of headers)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pydicom import Dataset, dcmread

from ..errors import Rejected
from ..model import TEXTS, Header, Slice
from .attributes import is_uid, named
from .decoding_limits import TooMuch, check_inflated
from .malformed import MALFORMED
from .part10 import MANUFACTURER
from .persons import digest_of, person_of
from .pixel_attributes import unreadable_pixels
from .transfer_syntaxes import syntax_problem
from .uids import CT_CLASSES, CTImageStorage
from .values import numbers_of, text_of, value_of

TAGS = [
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate",
    "FrameOfReferenceUID", "ManufacturerModelName", "DeviceSerialNumber", "AccessionNumber", "ImageType", "SOPClassUID",
    "SOPInstanceUID", "Modality", "Manufacturer", "SeriesDescription", "ProtocolName", "ImageComments",
    "BodyPartExamined", "PatientPosition", "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime",
    "AcquisitionNumber", "AcquisitionContextSequence", "StudyInstanceUID", "SeriesInstanceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "SliceThickness", "ConvolutionKernel", "ContrastBolusAgent",
    "ContrastBolusAgentSequence", "GantryDetectorTilt", "TemporalPositionIdentifier",
    "TemporalPositionIndex", "NominalPercentageOfRespiratoryPhase", "NumberOfFrames",
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

#: What names the scanner.
DEVICE = "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber"


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
        k: text_of(ds, k) for k in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    }
    for keyword, value in uids.items():
        if not value:
            raise Rejected(f"SOP instance {_name(path, uids['SOPInstanceUID'])} lacks its {named(keyword)}")
        if not is_uid(value):
            name = _name(path, "" if keyword == "SOPInstanceUID" else uids["SOPInstanceUID"])
            raise Rejected(f"SOP instance {name} cannot be read: its {named(keyword)} is not a UID")
    slices, ignored = _slices(ds, uids["SOPClassUID"], uids["SOPInstanceUID"])
    percent = numbers_of(ds, "NominalPercentageOfRespiratoryPhase", 1)
    return Header(
        uids["SOPClassUID"], uids["SOPInstanceUID"], uids["SeriesInstanceUID"], uids["StudyInstanceUID"],
        modality=text_of(ds, "Modality"),
        slices=slices,
        texts=tuple(text_of(ds, k) for k in TEXTS),
        phase_code=_phase_code(ds),
        phase_percent=percent[0] if percent else None,
        kernel=slices[0].acquisition[1] if slices else text_of(ds, "ConvolutionKernel"),
        contrast=_contrast(ds),
        gantry_tilt=(numbers_of(ds, "GantryDetectorTilt", 1) or (0.0,))[0],
        body_part=text_of(ds, "BodyPartExamined"),
        acquired=text_of(ds, "AcquisitionDateTime")
        or text_of(ds, "AcquisitionDate") + text_of(ds, "AcquisitionTime"),
        patient_position=text_of(ds, "PatientPosition"),
        ignored=ignored,
        person=person_of(ds),
        frame_of_reference=text_of(ds, "FrameOfReferenceUID"),
        device=" ".join(text_of(ds, k) for k in DEVICE).strip(),
        accession=digest_of(text_of(ds, "AccessionNumber")),
    )  # fmt: skip


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


def _items(ds: Dataset, keyword: str) -> list[Dataset]:
    value = value_of(ds, keyword)
    try:
        return [item for item in value or [] if isinstance(item, Dataset)]
    except MALFORMED:
        return []


def _slices(ds: Dataset, sop_class_uid: str, sop_instance_uid: str) -> tuple[tuple[Slice, ...], str]:
    """Return the slices of an instance, or why it has none."""
    if sop_class_uid not in CT_CLASSES:
        return (), "not CT"
    if text_of(ds, "Manufacturer") == MANUFACTURER:
        return (), "our own result"
    if sop_class_uid == CTImageStorage:
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
    image_type = text_of(find("FrameType"), "FrameType") or text_of(ds, "ImageType")
    if unfit := _unfit(image_type.split("\\")):
        return (), unfit
    geometry = {
        k: numbers_of(find(k), k, n)
        for k, n in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2),
                     ("Rows", 1), ("Columns", 1))
    }  # fmt: skip
    lacking = [k for k, v in geometry.items() if not v]
    if lacking:
        return (
            (),
            f"no {named(lacking[0])} in SOP instance {sop_instance_uid}, expected {EXPECTED[lacking[0]]}",
        )
    if n == 1 and (unusable := unreadable_pixels(ds, text_of(ds, "SOPClassUID") == CTImageStorage)):
        return (), f"no {unusable} in SOP instance {sop_instance_uid}"
    position, orientation, spacing, rows, columns = geometry.values()
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


#: Attributes that must give a slice's position and orientation -> what messages say is expected.
EXPECTED = {
    "ImagePositionPatient": "3 numbers", "ImageOrientationPatient": "6 numbers", "PixelSpacing": "2 numbers",
    "Rows": "1 number", "Columns": "1 number",
}  # fmt: skip


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


def _phase_code(ds: Dataset) -> str:
    """Return the phase that Acquisition Context items code (PS3.3 C.7.6.14); "" for none or for both."""
    found = {
        PHASE_CODES[code]
        for item in _items(ds, "AcquisitionContextSequence")
        for concept in _items(item, "ConceptCodeSequence")
        if (code := text_of(concept, "CodeValue")) in PHASE_CODES
    }
    return found.pop() if len(found) == 1 else ""


def _contrast(ds: Dataset) -> str:
    agents = [text_of(item, "CodeMeaning") for item in _items(ds, "ContrastBolusAgentSequence")]
    agent = text_of(ds, "ContrastBolusAgent") or next((a for a in agents if a), "")
    return "" if agent.upper() in NO_CONTRAST else agent
