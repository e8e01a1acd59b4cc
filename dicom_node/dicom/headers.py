"""A stored file -> Header, what the node decides with; never pixels (the only reader of headers)."""

from __future__ import annotations

import re
from pathlib import Path

from pydicom import Dataset, dcmread

from ..errors import Rejected
from ..model import TEXTS, Header, digest_of
from .attributes import is_uid, named
from .decoding_limits import TooMuch, check_inflated
from .malformed import MALFORMED
from .persons import person_of
from .slices import slices_of
from .transfer_syntaxes import syntax_problem
from .values import items_of, numbers_of, text_of

TAGS = [
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate",
    "FrameOfReferenceUID", "ManufacturerModelName", "DeviceSerialNumber", "AccessionNumber", "ImageType", "SOPClassUID",
    "SOPInstanceUID", "Modality", "Manufacturer", "SeriesDescription", "ProtocolName", "ImageComments",
    "BodyPartExamined", "PatientPosition", "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime",
    "AcquisitionNumber", "AcquisitionContextSequence", "StudyInstanceUID", "SeriesInstanceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "SliceThickness", "ConvolutionKernel", "ContrastBolusAgent",
    "ContrastBolusAgentSequence", "GantryDetectorTilt", "TemporalPositionIdentifier",
    "TemporalPositionIndex", "NominalPercentageOfRespiratoryPhase", "NumberOfFrames",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip

#: What names the scanner.
DEVICE = "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber"


#: Codes of Acquisition Context items (CID 3823, 3337; SCT, its old SRT form, DCM) -> the code of the phase.
PHASE_CODES = {
    "14910006": "14910006", "F-20010": "14910006", "109024": "14910006",
    "58322009": "58322009", "F-20020": "58322009", "109023": "58322009",
}  # fmt: skip

#: Beginnings of Contrast/Bolus Agent (0018,0010) that say that none was given, in the languages of consoles.
NO_CONTRAST = re.compile(
    r"(?i)(?!NON.?IONI)"  # a kind of agent
    r"($|0(\.0*)?\s*(ML)?$|(N|N/?A|NO|NON|NONE|NIL|NOT|NEIN|KEIN\w*|NAO|NÃO|WITHOUT|W/?O|OHNE|SANS|SIN|SENZA|SEM|ZONDER"
    r"|GEEN|BEZ|БЕЗ|НЕТ|UTAN|UDEN|UTEN|INGEN|ILMAN|YOK|NATIVE?|NATIF|PLAIN|UNENHANCED|NON-?CONTRAST)(?!\w)"
    r"|无|無|未|なし)"
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
        return _header(path, *_read(path))
    except OSError as error:
        if error.errno is not None:
            raise
        # pydicom raises this for a sequence whose bytes are not DICOM
        raise Rejected(f"SOP instance {_name(path)} cannot be read: {error}") from error


def _header(path: Path, ds: Dataset, left: int) -> Header:
    uids = {
        k: text_of(ds, k) for k in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    }
    for keyword, value in uids.items():
        if not value:
            raise Rejected(f"SOP instance {_name(path, uids['SOPInstanceUID'])} lacks its {named(keyword)}")
        if not is_uid(value):
            name = _name(path, "" if keyword == "SOPInstanceUID" else uids["SOPInstanceUID"])
            raise Rejected(f"SOP instance {name} cannot be read: its {named(keyword)} is not a UID")
    slices, ignored, notes = slices_of(ds, uids["SOPClassUID"], uids["SOPInstanceUID"], left)
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
        notes=notes,
    )  # fmt: skip


def _read(path: Path) -> tuple[Dataset, int]:
    """Return the header of a file, and how many bytes follow it."""
    with path.open("rb") as file:
        start = file.read(132)
    # Without a preamble only a file that begins with an element of group 0002 or 0008 is taken for DICOM.
    bare = start[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08")
    if start[128:132] != b"DICM" and not bare:
        raise Rejected(f"SOP instance {_name(path)} is not a DICOM file")
    try:
        check_inflated(path)
        with path.open("rb") as file:
            ds = dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
            left = path.stat().st_size - file.tell()
        if problem := syntax_problem(path, ds):
            raise Rejected(f"SOP instance {_name(path)} cannot be read: {problem}")
        return ds, left
    except TooMuch as error:
        raise Rejected(f"SOP instance {_name(path)} cannot be read: {error}") from error
    except MALFORMED as error:
        raise Rejected(f"SOP instance {_name(path)} cannot be read: {type(error).__name__}") from error


def _name(path: Path, otherwise: str = "") -> str:
    """Return the file's name if it is a UID; other names may hold a patient's name and are not repeated."""
    return path.stem if re.fullmatch(r"[0-9.]{8,64}", path.stem) else otherwise or "of unknown UID"


def _phase_code(ds: Dataset) -> str:
    """Return the phase that Acquisition Context items code (PS3.3 C.7.6.14); "" for none or for both."""
    found = {
        PHASE_CODES[code]
        for item in items_of(ds, "AcquisitionContextSequence")
        for concept in items_of(item, "ConceptCodeSequence")
        if (code := text_of(concept, "CodeValue")) in PHASE_CODES
    }
    return found.pop() if len(found) == 1 else ""


def _contrast(ds: Dataset) -> str:
    agents = [text_of(item, "CodeMeaning") for item in items_of(ds, "ContrastBolusAgentSequence")]
    agent = text_of(ds, "ContrastBolusAgent") or next((a for a in agents if a), "")
    return "" if NO_CONTRAST.match(agent.strip()) else agent
