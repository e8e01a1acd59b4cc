"""Summary and worst slices -> Key Object Selection (PS3.3 A.35.4, TID 2010)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom import Dataset

from analysis.pipeline.pipeline import Analysis

from . import codes
from .context import Case
from .kinds import Making

DESCRIPTION = "V/Q summary and the slices with the most abnormal lung. Research use only."


def build(making: Making) -> Iterator[Dataset]:
    """Make the document of the key images."""
    yield build_key_objects(making.analysis, making.case, making.referenced["key_objects"])


def build_key_objects(analysis: Analysis, case: Case, chosen: Sequence[Dataset]) -> Dataset:
    """Make a document that references ``chosen``, in that order."""
    ds = KeyObjectSelectionDocument(
        evidence=list(chosen),
        content=KeyObjectSelection(codes.OF_INTEREST, list(chosen), description=DESCRIPTION),
        **case.series_of(analysis, "key objects"),
        series_description="V/Q key images (research use only)",
    )
    case.stamp(ds)
    return ds
