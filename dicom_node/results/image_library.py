"""The pair's instances -> Image Library (PS3.16 TID 1600), one group a phase."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    ContentSequence,
    ImageContentItem,
    ImageLibraryEntryDescriptors,
    RelationshipTypeValues,
    UIDRefContentItem,
)
from highdicom.sr.coding import CodedConcept
from pydicom import Dataset
from pydicom.sr.coding import Code

from ..model import Series
from . import codes
from .context import Case


def image_library(case: Case) -> ContainerContentItem:
    """Name both series by their UID, with what their slices share and the middle one as their representative.

    All of their images stand in the evidence. Viewers show a line for each entry of the library, and highdicom's own
    repeats sixteen descriptors for each of the hundreds of slices: the conclusion was lost among them.
    """
    library = _container(codes.IMAGE_LIBRARY)
    library.ContentSequence = ContentSequence(
        [
            _group(case.expiratory, case.pair.expiratory, codes.EXPIRATION),
            _group(case.inspiratory, case.pair.inspiratory, codes.INSPIRATION),
        ]
    )
    return library


def _group(images: Sequence[Dataset], series: Series, phase: Code) -> ContainerContentItem:
    group = _container(codes.IMAGE_LIBRARY_GROUP)
    shared = [
        d
        for d in ImageLibraryEntryDescriptors(_with_geometry(images[0], series))
        if d.name.value not in codes.SLICE_DESCRIPTORS
    ]
    said = CodeContentItem(
        CodedConcept.from_code(codes.RESPIRATORY_PHASE),
        CodedConcept.from_code(phase),
        RelationshipTypeValues.HAS_ACQ_CONTEXT,
    )
    named = UIDRefContentItem(
        CodedConcept.from_code(codes.SERIES),
        series.series_instance_uid,
        RelationshipTypeValues.HAS_ACQ_CONTEXT,
    )
    middle = images[len(images) // 2]
    entry = ImageContentItem(
        CodedConcept.from_code(codes.SOURCE),
        middle.SOPClassUID,
        middle.SOPInstanceUID,
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    group.ContentSequence = ContentSequence([said, named, *shared, entry])
    return group


def _container(name: Code) -> ContainerContentItem:
    return ContainerContentItem(
        CodedConcept.from_code(name), relationship_type=RelationshipTypeValues.CONTAINS
    )


def _with_geometry(image: Dataset, series: Series) -> Dataset:
    """Return an instance with its geometry at the root, where highdicom reads it, not in functional groups."""
    out, first = Dataset(), series.slices[0]
    out.update(image)
    out.PixelSpacing = list(first.spacing)
    out.SliceThickness = first.thickness or series.gap
    out.ImagePositionPatient = list(first.position)
    out.ImageOrientationPatient = list(first.orientation)
    return out
