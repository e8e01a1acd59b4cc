"""Classes and lungs -> Label Map Segmentation (PS3.3 A.51), for those who ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from highdicom.seg import Segmentation, SegmentationTypeValues
from pydicom import Dataset

from analysis.pipeline.pipeline import Analysis

from .context import Case
from .kinds import Making
from .seg import CLASS_SEGMENTS, segmentation


def build(making: Making) -> Iterator[Dataset]:
    """Make the label map."""
    yield build_labelmap(making.analysis, making.case)


def build_labelmap(analysis: Analysis, case: Case) -> Segmentation:
    """Make the segments as one label a voxel (PS3.3 A.51, Label Map Segmentation Storage).

    A voxel of a class is that class; the lungs' segments hold what was not classified.
    """
    labels = np.where(analysis.lungs > 0, analysis.lungs + np.uint8(len(CLASS_SEGMENTS)), 0).astype(np.uint8)
    for number, c in CLASS_SEGMENTS.items():
        labels[analysis.classes == c] = number
    return segmentation(analysis, case, "labelmap", labels, SegmentationTypeValues.LABELMAP)
