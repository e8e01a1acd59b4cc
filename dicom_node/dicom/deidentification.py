"""A CT instance -> the same without identity: PS3.15 Annex E, Basic Application Level Confidentiality Profile.

Kept is what this table names, and nothing else: private, unknown and free-text attributes go, whatever they hold.
Options: Clean Descriptors (the Series Description says the phase and no more) and Retain Longitudinal Temporal
Information with Modified Dates (all dates of a patient are shifted by the same days; times of day go). Whoever asks for
it keeps more: `RETAINED`.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydicom import DataElement, Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.uid import UID, ExplicitVRLittleEndian

from ..errors import Rejected
from .age import years_of_age
from .malformed import MALFORMED

#: Prefix of the UIDs that the standard defines, such as SOP classes; every other UID is replaced.
STANDARD = "1.2.840.10008."
#: Dates are moved back by 1 to this many days.
MOST_DAYS = 3650
LEAST_KEY = 16

#: Attributes kept unchanged: what the images are, where they lie and how they were made.
KEPT = frozenset({
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "Manufacturer",
    "ManufacturerModelName", "SoftwareVersions", "BodyPartExamined", "Laterality",
    "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "AcquisitionNumber", "InstanceNumber", "PatientPosition",
    "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation",
    "TemporalPositionIdentifier", "TemporalPositionIndex", "NominalPercentageOfRespiratoryPhase",
    "ScanOptions", "SliceThickness", "SpacingBetweenSlices", "KVP", "DataCollectionDiameter",
    "ReconstructionDiameter", "DistanceSourceToDetector", "DistanceSourceToPatient", "GantryDetectorTilt",
    "TableHeight", "RotationDirection", "ExposureTime", "XRayTubeCurrent", "Exposure", "FilterType",
    "GeneratorPower", "FocalSpots", "ConvolutionKernel", "RevolutionTime", "SingleCollimationWidth",
    "TotalCollimationWidth", "TableSpeed", "TableFeedPerRotation", "SpiralPitchFactor", "CTDIvol",
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PixelSpacing",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleIntercept", "RescaleSlope", "RescaleType", "WindowCenter", "WindowWidth", "BurnedInAnnotation",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod", "PresentationLUTShape",
    "PixelPresentation", "VolumetricProperties", "VolumeBasedCalculationTechnique", "ContentQualification",
    # Enhanced CT (PS3.3 A.38): the groups, and what of them stays
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PlanePositionSequence",
    "PlaneOrientationSequence", "PixelMeasuresSequence", "CTImageFrameTypeSequence", "FrameType",
    "CTReconstructionSequence", "FrameContentSequence", "FrameAcquisitionNumber", "StackID", "InStackPositionNumber",
    "DimensionIndexValues", "PixelValueTransformationSequence", "FrameVOILUTSequence", "FrameAnatomySequence",
    "FrameLaterality", "AnatomicRegionSequence", "CodeValue", "CodingSchemeDesignator", "CodeMeaning",
    "CTAcquisitionTypeSequence", "AcquisitionType", "RespiratorySynchronizationSequence",
    "UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence",
    "DimensionOrganizationSequence", "DimensionOrganizationUID", "DimensionIndexSequence", "DimensionIndexPointer",
    "FunctionalGroupPointer",
})  # fmt: skip
#: Dates and date-times: the date is kept, but shifted.
DATES = frozenset({
    "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime", "FrameAcquisitionDateTime",
    "FrameReferenceDateTime",
})  # fmt: skip
#: Type 2 attributes (PS3.3 C.7): present, and empty.
EMPTY = (
    "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyTime", "ReferringPhysicianName",
    "PositionReferenceIndicator",
)  # fmt: skip
#: What was done (PS3.16 CID 7050).
METHOD = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)
#: Ages from here on are written as this one: so few people are that old that the age alone may name one (45 CFR
#: 164.514(b)(2)(i)(C)).
OLDEST = 90


@dataclass(frozen=True)
class Retained:
    """Hold an option of the profile that keeps attributes.

    Parameters
    ----------
    code, meaning : str
        Of CID 7050, written into De-identification Method Code Sequence (0012,0064).
    keywords : frozenset of str
        Attributes that Table E.1-1 keeps under this option, as far as a CT has them.
    """

    code: str
    meaning: str
    keywords: frozenset[str]


#: Name of an option of `dicom-node deidentify --retain` -> what it keeps besides.
RETAINED: Mapping[str, Retained] = {
    "characteristics": Retained(
        "113108", "Retain Patient Characteristics Option",
        frozenset({
            "PatientSex", "PatientAge", "PatientSize", "PatientWeight", "EthnicGroup", "SmokingStatus",
            "PregnancyStatus", "PatientSexNeutered",
        }),
    ),
    "device": Retained(
        "113109", "Retain Device Identity Option",
        frozenset({
            "StationName", "ScheduledStationName", "PerformedStationName", "DeviceSerialNumber", "DeviceUID",
            "DeviceDescription", "ManufacturerDeviceClassUID", "UniqueDeviceIdentifier", "GantryID", "DetectorID",
            "GeneratorID", "ModifyingDeviceID", "XRayDetectorID", "XRayDetectorLabel", "XRaySourceID",
        }),
    ),
}  # fmt: skip


class Pseudonyms:
    """Replace UIDs, patients and dates: alike for the same key, and irreversible without it.

    Parameters
    ----------
    key : bytes
        A secret of at least 16 bytes.

    Raises
    ------
    Rejected
        Where the key is shorter.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < LEAST_KEY:
            raise Rejected(f"the key for pseudonyms has {len(key)} bytes; it needs at least {LEAST_KEY}")
        self._key = key

    def uid(self, uid: str) -> UID:
        """Return the UID that replaces another; UIDs of the standard are kept.

        Examples
        --------
        >>> names = Pseudonyms(bytes(16))
        >>> names.uid("1.2.3") == names.uid("1.2.3") != names.uid("1.2.4")
        True
        """
        if not uid or uid.startswith(STANDARD):
            return UID(uid)
        return UID(f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=5).int}")

    def patient(self, ds: Dataset) -> str:
        """Return the pseudonym that replaces the patient's ID and name."""
        return f"VQ-{self._digest('patient', self._who(ds)).hex()[:12].upper()}"

    def date(self, ds: Dataset, text: str) -> str:
        """Return the date of a DA or DT value, shifted by the patient's days; "" where it is not a date."""
        days = 1 + int.from_bytes(self._digest("days", self._who(ds))[:8]) % MOST_DAYS
        try:
            moved = datetime.strptime(text[:8], "%Y%m%d") - timedelta(days)
        except ValueError:
            return ""
        return moved.strftime("%Y%m%d")

    def _who(self, ds: Dataset) -> str:
        return "\n".join(str(ds.get(k) or "").strip() for k in ("PatientID", "IssuerOfPatientID"))

    def _digest(self, role: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{role}\n{text}".encode(), hashlib.sha256)


@dataclass(frozen=True)
class Profile:
    """Hold how images lose their identity.

    Parameters
    ----------
    names : Pseudonyms
    retain : tuple of str
        Options of `RETAINED`.

    Raises
    ------
    Rejected
        Where an option is not known.
    """

    names: Pseudonyms
    retain: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := [name for name in self.retain if name not in RETAINED]:
            raise Rejected(f"{', '.join(unknown)}: what can be retained is {', '.join(RETAINED)}")


def without_identity(ds: Dataset, profile: Profile, description: str) -> Dataset:
    """Return a CT instance without identity; the caller adds its pixels.

    Parameters
    ----------
    ds : Dataset
        As stored; not changed.
    profile : Profile
    description : str
        The new Series Description.

    Returns
    -------
    Dataset
        With file meta information; Explicit VR Little Endian.

    Raises
    ------
    Rejected
        Where the image says that annotations are burned into its pixels.
    """
    if str(ds.get("BurnedInAnnotation") or "NO").upper() != "NO":
        raise Rejected(f"SOP instance {ds.SOPInstanceUID} has annotations burned in: not de-identified")
    names = profile.names
    out = _kept(ds, ds, names)
    for option in profile.retain:
        _retain(ds, out, RETAINED[option].keywords)
    for keyword in EMPTY:
        if keyword not in out:
            setattr(out, keyword, "")
    out.PatientID = names.patient(ds)
    out.PatientName = f"{out.PatientID}^"
    out.SeriesDescription = description
    if "NumberOfFrames" in out:
        out.ContentTime, out.AcquisitionContextSequence = "000000", []
    out.PatientIdentityRemoved = "YES"
    out.LongitudinalTemporalInformationModified = "MODIFIED"
    out.DeidentificationMethod = "PS3.15 Annex E: all but listed attributes removed"
    options = [(RETAINED[name].code, RETAINED[name].meaning) for name in profile.retain]
    out.DeidentificationMethodCodeSequence = [_code(value, meaning) for value, meaning in (*METHOD, *options)]
    out.ensure_file_meta()
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out.file_meta.MediaStorageSOPClassUID = out.SOPClassUID
    out.file_meta.MediaStorageSOPInstanceUID = out.SOPInstanceUID
    return out


def _kept(ds: Dataset, root: Dataset, names: Pseudonyms) -> Dataset:
    out = Dataset()
    for tag in list(ds.keys()):
        keyword = keyword_for_tag(tag)
        if keyword not in KEPT and keyword not in DATES:
            continue
        try:
            element = ds[tag]
            if element.VR == "SQ":
                value: object = [_kept(item, root, names) for item in element.value]
            elif keyword in DATES:
                value = names.date(root, str(element.value or ""))
            elif element.VR == "UI":
                value = names.uid(str(element.value or ""))
            else:
                value = element.value
            out.add(DataElement(tag, element.VR, value))
        except MALFORMED:
            continue
    return out


def _retain(ds: Dataset, out: Dataset, keywords: Collection[str]) -> None:
    """Copy attributes as they are, except that an age is at most `OLDEST`, and follows from the birth date."""
    for keyword in keywords:
        try:
            if ds.get(keyword) not in (None, ""):
                out[keyword] = ds[keyword]
        except MALFORMED:
            continue
    if "PatientAge" in keywords:
        years = years_of_age(ds)
        out.pop("PatientAge", None)
        if years is not None:
            out.PatientAge = f"{min(int(years), OLDEST):03d}Y"


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
