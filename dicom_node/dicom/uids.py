"""UIDs of the standard that pydicom's tables lack, and those of CT images."""

from __future__ import annotations

from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

#: CT images that can be part of a pair (PS3.4 B.5).
CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
#: PS3.6 Annex A, since 2024d.
LABEL_MAP_SEGMENTATION_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
