"""What other people's scanners, archives and anonymisers make of one plain pair: a change of its files for each kind.

The pair is two folders, `insp` and `exp`, of files in slice order. A variant says what must be made of it: a result,
and what a reader of it is told, or a refusal.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    LegacyConvertedEnhancedCTImageStorage,
)
from spoilt import spoil

Change = Callable[[Path], None]
BOTH = "insp", "exp"


@dataclass(frozen=True)
class Variant:
    """One way in which the files of a pair can be odd.

    Parameters
    ----------
    name : str
        The kind, and what is odd.
    change : callable
        Changes the files below a folder.
    refused : str
        Pattern of the sentence that refuses it; "" for a result.
    told : str
        Pattern of what a reader of the result is told; "" for nothing.
    """

    name: str
    change: Change
    refused: str = ""
    told: str = ""


def files(folder: Path, *phases: str) -> list[Path]:
    return [path for phase in phases or BOTH for path in sorted((folder / phase).glob("*.dcm"))]


def attribute(keyword: str, vr: str, value: bytes | None, *phases: str, only: Sequence[int] = ()) -> Change:
    """An attribute of every slice of some phases, or of some slices of each, byte for byte."""

    def change(folder: Path) -> None:
        for phase in phases or BOTH:
            found = files(folder, phase)
            spoil([found[k] for k in only] if only else found, {(keyword, vr): value})

    return change


def both(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def each(change: Callable[[Any, int], None], *phases: str) -> Change:
    """A change of every slice, as a data set, with its number in the series."""

    def change_all(folder: Path) -> None:
        for phase in phases or BOTH:
            for k, path in enumerate(files(folder, phase)):
                ds = dcmread(path)
                change(ds, k)
                ds.save_as(path)

    return change_all


def more(make: Callable[[Any, int], None], numbers: Iterable[int], phase: str = "exp") -> Change:
    """Further instances of one series, each made from a slice of it."""

    def change(folder: Path) -> None:
        found = files(folder, phase)
        for n, k in enumerate(numbers):
            ds = dcmread(found[k])
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.77{n}")
            make(ds, n)
            ds.save_as(folder / phase / f"more{n:02d}.dcm")

    return change


def nothing(ds: Any, k: int) -> None:
    """Change nothing: the instance is as it was, but for its UID."""


def named(insp: str, exp: str) -> Change:
    return both(
        attribute("SeriesDescription", "LO", insp.encode(), "insp"),
        attribute("SeriesDescription", "LO", exp.encode(), "exp"),
    )


def scout(ds: Any, k: int) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def unnamed_scout(ds: Any, k: int) -> None:
    scout(ds, k)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]


def reformat(ds: Any, n: int) -> None:
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [8 * n, -48, 0]


def page(ds: Any, k: int) -> None:
    """The dose page that a console stores as CT in the series."""
    ds.ImageType = ["ORIGINAL", "SECONDARY"]
    del ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing


def page_in_place(ds: Any, k: int) -> None:
    ds.ImageType = ["ORIGINAL", "SECONDARY", "OTHER"]


def unsigned(ds: Any, k: int) -> None:
    """Unsigned with a padding of -2000, which becomes 63536."""
    stored = np.frombuffer(ds.PixelData, "<i2").copy()
    stored[:20] = -2000
    ds.PixelData, ds.PixelRepresentation = stored.astype("<u2").tobytes(), 0
    ds.PixelData = np.where(stored == -2000, 63536, stored.astype(int) + 1024).astype("<u2").tobytes()
    ds.RescaleIntercept = "-1024"
    ds.add_new("PixelPaddingValue", "SS", -2000)


def eight_bits(ds: Any, k: int) -> None:
    stored = np.frombuffer(ds.PixelData, "<i2")
    ds.PixelData = ((stored.clip(-1000, 1000) + 1000) // 8).astype("u1").tobytes()
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.RescaleSlope, ds.RescaleIntercept = "8", "-1000"


def rescaled(ds: Any, k: int) -> None:
    ds.RescaleSlope, ds.RescaleIntercept = "1", str(-k)


def tilted(ds: Any, k: int) -> None:
    x, y, z = map(float, ds.ImagePositionPatient)
    ds.ImagePositionPatient = [x, round(y + 0.8 * k, 3), z]


def jittered(ds: Any, k: int) -> None:
    x, y, z = map(float, ds.ImagePositionPatient)
    ds.ImagePositionPatient = [x, y, round(z + (0.3, -0.3, 0.0)[k % 3], 3)]


def oblique(ds: Any, k: int) -> None:
    ds.ImageOrientationPatient = [1, 0, 0, 1, 0, 0]


def bare(syntax: str) -> Change:
    """Data sets without preamble and File Meta Information."""

    def change(folder: Path) -> None:
        for path in files(folder):
            ds = dcmread(path)
            one = Dataset()
            one.update({e.tag: e for e in ds if e.tag.group != 2})
            one.save_as(path, implicit_vr=syntax == "implicit", little_endian=True)

    return change


def encoded(syntax: UID) -> Change:
    def change(folder: Path) -> None:
        for path in files(folder):
            ds, one = dcmread(path), Dataset()
            one.update({e.tag: e for e in ds if e.tag.group != 2})
            if syntax == ExplicitVRBigEndian:
                one.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
            one.file_meta = ds.file_meta
            one.file_meta.TransferSyntaxUID = syntax
            one.save_as(path, enforce_file_format=True)

    return change


def cut(folder: Path) -> None:
    path = files(folder, "exp")[10]
    path.write_bytes(path.read_bytes()[:-100])


def missing(folder: Path) -> None:
    files(folder, "exp")[10].unlink()


def own_series(ds: Any, k: int) -> None:
    """An anonymiser that gives every file a Series Instance UID of its own."""
    ds.SeriesInstanceUID = f"{ds.SeriesInstanceUID}.{k}"


def one_series(folder: Path) -> None:
    """Both breath-holds in one series, which counts them as acquisitions."""
    attribute("SeriesInstanceUID", "UI", b"1.2.3.4")(folder)
    each(lambda ds, k: setattr(ds, "SeriesDescription", "Thorax"))(folder)


def converted(sop_class: UID) -> Change:
    """Each series as one multi-frame instance."""

    def change(folder: Path) -> None:
        for phase in BOTH:
            found = files(folder, phase)
            (folder / phase / "frames.dcm").write_bytes(frames([dcmread(p) for p in found], sop_class))
            for path in found:
                path.unlink()

    return change


def frames(single: Sequence[Dataset], sop_class: UID) -> bytes:
    from io import BytesIO

    from made import frame_groups, shared_groups

    ds = single[0]
    shared, per_frame = shared_groups(ds), [frame_groups(one) for one in single]
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.PixelData = b"".join(one.PixelData for one in single)
    ds.NumberOfFrames = len(single)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope",
                    "RescaleIntercept", "RescaleType", "SliceThickness"):  # fmt: skip
        del ds[keyword]
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], per_frame
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def frames_without_unit(folder: Path) -> None:
    converted(EnhancedCTImageStorage)(folder)
    for path in files(folder):
        ds = dcmread(path)
        del ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
        ds.save_as(path)


WHO = "are of two patients: "
TURNED = r"the positions of the patient differ .*Patient Position \(0018,5100\)"
VARIANTS = (
    Variant("plain", lambda folder: None),
    # attributes that results copy
    Variant("birth date 1950", attribute("PatientBirthDate", "DA", b"1950"), told=r"\(0010,0030\) is not a date"),
    Variant("birth date on one only", attribute("PatientBirthDate", "DA", b"00/00/0000", "exp"), told=r"\(0010,0030\)"),
    Variant("character set of code extensions", attribute("SpecificCharacterSet", "CS", b"ISO 2022 IR 100")),
    Variant(
        "escapes in an institution's name, and no character set",
        both(
            attribute("SpecificCharacterSet", "CS", None),
            attribute("InstitutionName", "LO", b"\x1b$BEl5~\x1b(B Hospital"),
        ),
        told="does not hold every text",
    ),
    Variant(
        "an item's date",
        attribute("RequestAttributesSequence", "SQ", struct.pack("<HHL", 0xFFFE, 0xE000, 18)
                  + struct.pack("<HH2sH", 0x0040, 0x0002, b"DA", 10) + b"1.2.2025  "),
        told=r"Scheduled Procedure Step Start Date \(0040,0002\) is not a date",
    ),
    Variant("a sequence of garbage", attribute("ReferencedStudySequence", "SQ", b"garbage!")),
    # who
    Variant("two IDs", attribute("PatientID", "LO", b"2", "exp"), WHO + r"Patient ID \(0010,0020\)"),
    Variant(
        "two issuers",
        both(attribute("IssuerOfPatientID", "LO", b"A", "insp"), attribute("IssuerOfPatientID", "LO", b"B", "exp")),
        WHO + r"Issuer of Patient ID \(0010,0021\)",
    ),
    Variant(
        "two birth dates",
        both(
            attribute("PatientBirthDate", "DA", b"19500101", "insp"),
            attribute("PatientBirthDate", "DA", b"1960.01.01", "exp"),
        ),
        WHO + r"Patient's Birth Date \(0010,0030\)",
    ),
    Variant("two names", attribute("PatientName", "PN", b"Roe^Jane", "exp"), WHO + r"Patient's Name \(0010,0010\)"),
    Variant(
        "no ID and two names",
        both(attribute("PatientID", "LO", b""), attribute("PatientName", "PN", b"Roe^Jane", "exp")),
        WHO + r"Patient's Name \(0010,0010\)",
    ),
    Variant(
        "an ID for one and no names",
        both(attribute("PatientID", "LO", None, "exp"), attribute("PatientName", "PN", b"")),
        "do not say that it is one patient",
    ),
    Variant("words for no ID", attribute("PatientID", "LO", b"UNKNOWN", "exp")),
    Variant("a name with spaces for carets", attribute("PatientName", "PN", b"PHANTOM THORAX ", "exp")),
    Variant(
        "a birth date beside a year",
        both(
            attribute("PatientBirthDate", "DA", b"19500101", "insp"),
            attribute("PatientBirthDate", "DA", b"1950", "exp"),
        ),
        told="is not a date",
    ),
    Variant("no ID and no name", both(attribute("PatientID", "LO", b""), attribute("PatientName", "PN", b""))),
    # how the patient lay
    Variant("prone and supine", attribute("PatientPosition", "CS", b"HFP", "exp"), TURNED),
    Variant(
        "on one side and on the other",
        both(attribute("PatientPosition", "CS", b"HFDR", "exp"), attribute("PatientPosition", "CS", b"FFDL", "insp")),
        TURNED,
    ),
    Variant("prone in words only", both(attribute("PatientPosition", "CS", None),
            named("Thorax Insp", "Thorax Exp Bauchlage")), TURNED),
    Variant("both prone", attribute("PatientPosition", "CS", b"FFP"), told="Inspiration prone, expiration prone"),
    Variant("feet first and head first", attribute("PatientPosition", "CS", b"FFS", "exp")),
    Variant("no position on one", attribute("PatientPosition", "CS", None, "exp")),
    # stacks
    Variant("an acquisition for every slice", each(lambda ds, k: setattr(ds, "AcquisitionNumber", k))),
    Variant("no kernel in a slice", attribute("ConvolutionKernel", "SH", None, only=[0, 9])),
    Variant("a further value of Image Type", attribute("ImageType", "CS", b"ORIGINAL\\PRIMARY\\AXIAL\\X", only=[7])),
    Variant("a temporal index", each(lambda ds, k: setattr(ds, "TemporalPositionIdentifier", k))),
    Variant("slices twice with other UIDs", more(nothing, [3, 4]), told="2 slices that came twice"),
    Variant("a localizer in the series", more(scout, [0, 1])),
    Variant("a localizer called axial", more(unnamed_scout, [0, 1])),
    Variant("a sagittal reformat in the series", more(reformat, range(22))),
    Variant("a dose page in the series", more(page, [20]), told=r"Left out: no Image Position.*\(0020,0032\)"),
    Variant("a screen shot in a slice's place", more(page_in_place, [20])),
    Variant("jitter", each(jittered), told="Slices lie up to 0.3"),
    Variant("gantry tilt", each(tilted), "gantry tilt of"),
    Variant("a tilt that the geometry denies", attribute("GantryDetectorTilt", "DS", b"12.5"), "gantry tilt of 12.5"),
    Variant("a slice missing", missing, r"slice gap 10.0 mm after z=-165\.5, expected 5\.0"),
    Variant("a series for every file", each(own_series), r"1 slice: fewer than 20 .* and \d+ more"),
    Variant("both breath-holds in one series", one_series),
    Variant("a head", attribute("BodyPartExamined", "CS", b"HEAD"), r"Body Part Examined \(0018,0015\) is HEAD"),
    # words
    Variant("in German", named("Thorax Einatmung 1.0", "Thorax Ausatmung 1.0")),
    Variant("in Polish", named("KLP na wdechu", "KLP na wydechu")),
    Variant("in Spanish, of a spiral", named("TORAX ESPIRAL INSP", "TORAX ESPIRAL ESPIRACION")),
    Variant("one protocol for both", named("CHEST IN/EX", "CHEST IN/EX")),
    Variant("phases of a 4D series", named("CT_100_In", "CT_0_Ex")),
    Variant("two middles of a breath", named("CT_20_In", "CT_70_Ex"), "waiting"),
    Variant("two inspirations", named("Insp", "Insp"), "2 inspiratory stacks and no expiratory one"),
    # encodings
    Variant("no File Meta Information, implicit VR", bare("implicit")),
    Variant("no File Meta Information, explicit VR", bare("explicit")),
    Variant("big endian", encoded(ExplicitVRBigEndian)),
    Variant("deflated", encoded(DeflatedExplicitVRLittleEndian)),
    Variant("Enhanced CT", converted(EnhancedCTImageStorage)),
    Variant("Legacy Converted Enhanced CT", converted(LegacyConvertedEnhancedCTImageStorage)),
    # pixels
    Variant("frames without a unit", frames_without_unit, r"Rescale Slope \(0028,1053\)"),
    Variant("unsigned with padding", each(unsigned)),
    Variant("a rescale for every slice", each(rescaled)),
    Variant("no rescale", attribute("RescaleIntercept", "DS", None, "exp"), r"Rescale Intercept \(0028,1052\)"),
    Variant("optical density", attribute("RescaleType", "LO", b"OD", "exp"), r"Rescale Type \(0028,1054\) \(OD,"),
    Variant("a unit that is unspecified", attribute("RescaleType", "LO", b"US", "exp"), told=r"\(0028,1054\) is US"),
    Variant("eight bits", each(eight_bits), r"Bits Allocated \(0028,0100\) \(8, expected 16 or 32\)"),
    Variant("white is air", attribute("PhotometricInterpretation", "CS", b"MONOCHROME1")),
    Variant("colour", attribute("PhotometricInterpretation", "CS", b"RGB", "exp"), r"\(0028,0004\)"),
    Variant("a file cut short", cut, r"slice gap 10\.0 mm.*|Pixel Data \(7FE0,0010\)"),
    Variant("no Pixel Spacing", attribute("PixelSpacing", "DS", None, "exp"), r"Pixel Spacing \(0028,0030\)"),
    Variant("no place", each(oblique, "exp"), r"Image Orientation \(Patient\) \(0020,0037\)"),
    Variant("slices of no thickness", attribute("SliceThickness", "DS", b"0")),
    Variant("no Slice Thickness", attribute("SliceThickness", "DS", None)),
    Variant("negative spacing between slices", attribute("SpacingBetweenSlices", "DS", b"-5")),
    Variant("slices too thick", attribute("SliceThickness", "DS", b"8", "exp"), "slices of 8 mm, limit 5 mm"),
    Variant("contrast", attribute("ContrastBolusAgent", "LO", b"Iomeron", "insp"), "a contrast agent on inspiration"),
    Variant("no contrast, in French", attribute("ContrastBolusAgent", "LO", b"sans injection")),
)  # fmt: skip
