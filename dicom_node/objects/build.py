"""Analysis, Case -> every object to deliver, in the order of sending: what is referenced goes first."""

from __future__ import annotations

from pydicom import Dataset

from analysis.pipeline import Analysis

from .case import Case
from .report_sr import build_report
from .seg import build_segmentation


def build_objects(analysis: Analysis, case: Case) -> list[Dataset]:
    """Segmentation, then the report that references it.

    Parameters
    ----------
    analysis : Analysis
    case : Case

    Returns
    -------
    list of Dataset
        With file meta information, ready for ``dcmwrite`` (PS3.10, Explicit VR Little Endian).
    """
    segmentation = build_segmentation(analysis, case)
    return [segmentation, build_report(analysis, case, segmentation)]
