"""UIDs of the standard: CT images, services, and what pydicom's tables lack."""

from __future__ import annotations

from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    KeyObjectSelectionDocumentStorage,
    LegacyConvertedEnhancedCTImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

__all__ = [
    "CT_CLASSES",
    "PERFORMED_PROCEDURE_STEP",
    "STORAGE_COMMITMENT",
    "STORAGE_COMMITMENT_INSTANCE",
    "STUDY_ROOT_FIND",
    "STUDY_ROOT_GET",
    "STUDY_ROOT_MOVE",
    "VERIFICATION",
    "BasicTextSRStorage",
    "CTImageStorage",
    "Comprehensive3DSRStorage",
    "EncapsulatedPDFStorage",
    "ExplicitVRLittleEndian",
    "JPEGBaseline8Bit",
    "KeyObjectSelectionDocumentStorage",
    "LabelMapSegmentationStorage",
    "ParametricMapStorage",
    "SecondaryCaptureImageStorage",
    "SegmentationStorage",
]

#: CT images that can be part of a pair (PS3.4 B.5).
CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
#: PS3.6 Annex A, since 2024d.
LabelMapSegmentationStorage = UID("1.2.840.10008.5.1.4.1.1.66.7")

#: Services (PS3.6 Annex A); pynetdicom has them, too, but makes them while it is imported, which no type checker sees.
VERIFICATION = UID("1.2.840.10008.1.1")
STORAGE_COMMITMENT = UID("1.2.840.10008.1.20.1")
STORAGE_COMMITMENT_INSTANCE = UID("1.2.840.10008.1.20.1.1")
PERFORMED_PROCEDURE_STEP = UID("1.2.840.10008.3.1.2.3.3")
STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
STUDY_ROOT_MOVE = UID("1.2.840.10008.5.1.4.1.2.2.2")
STUDY_ROOT_GET = UID("1.2.840.10008.5.1.4.1.2.2.3")
