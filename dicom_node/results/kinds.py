"""Analysis, Case -> every object asked for, in the order of sending: what is referenced goes first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from pydicom import Dataset
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from analysis.figures.captures import worst_slices
from analysis.pipeline.pipeline import Analysis
from analysis.volume import Volume

from ..model import DEFAULT_OBJECTS
from .captures import build_captures, build_summary
from .context import SERIES_NUMBER, Case
from .key_objects import build_key_objects
from .parametric_map import build_maps
from .report_pdf import build_pdf
from .report_sr import build_report
from .report_text import build_text_report
from .seg import build_labelmap, build_segmentation

#: SOP class and transfer syntax of each kind.
CLASSES: Mapping[str, tuple[UID, UID]] = {
    "seg": (SegmentationStorage, ExplicitVRLittleEndian),
    "sr": (Comprehensive3DSRStorage, ExplicitVRLittleEndian),
    "captures": (SecondaryCaptureImageStorage, JPEGBaseline8Bit),
    "pdf": (EncapsulatedPDFStorage, ExplicitVRLittleEndian),
    "key_objects": (KeyObjectSelectionDocumentStorage, ExplicitVRLittleEndian),
    "labelmap": (UID("1.2.840.10008.5.1.4.1.1.66.7"), ExplicitVRLittleEndian),
    "text_sr": (BasicTextSRStorage, ExplicitVRLittleEndian),
    "maps": (ParametricMapStorage, ExplicitVRLittleEndian),
}


def build_objects(
    analysis: Analysis,
    case: Case,
    load_ct: Callable[[], Volume],
    kinds: Collection[str] = DEFAULT_OBJECTS,
) -> Iterator[tuple[str, Dataset]]:
    """Every object of the kinds asked for, one at a time.

    Parameters
    ----------
    analysis : Analysis
    case : Case
    load_ct : callable
        Reads the expiratory CT; called only where colour captures or key objects are asked for.
    kinds : collection of str
        Of `model.OBJECT_KINDS`.

    Yields
    ------
    kind : str
    ds : Dataset
        With file meta information, ready for ``dcmwrite`` (PS3.10).
    """
    if {"seg", "sr"} & set(kinds):
        # the report references the segments: it makes no sense without them
        segmentation = build_segmentation(analysis, case)
        yield "seg", segmentation
        yield "sr", build_report(analysis, case, segmentation)
        del segmentation
    if "labelmap" in kinds:
        yield "labelmap", build_labelmap(analysis, case)
    if "text_sr" in kinds:
        yield "text_sr", build_text_report(analysis, case)
    if {"captures", "key_objects"} & set(kinds):
        yield from _pictures(analysis, case, load_ct())
    if "pdf" in kinds:
        yield "pdf", build_pdf(analysis, case)
    if "maps" in kinds:
        yield from (("maps", ds) for ds in build_maps(analysis, case))


def _pictures(analysis: Analysis, case: Case, ct: Volume) -> Iterator[tuple[str, Dataset]]:
    summary = build_summary(analysis, case)
    yield "captures", summary
    worst = {k + 1: order for order, k in enumerate(worst_slices(analysis))}
    chosen: dict[int, Dataset] = {}
    for ds in build_captures(analysis, case, ct):
        if ds.SeriesNumber == SERIES_NUMBER["capture classes"] and int(ds.InstanceNumber) in worst:
            chosen[worst[int(ds.InstanceNumber)]] = ds
        yield "captures", ds
    yield "key_objects", build_key_objects(analysis, case, [summary, *(chosen[n] for n in sorted(chosen))])
