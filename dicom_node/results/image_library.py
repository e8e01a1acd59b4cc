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
)
from highdicom.sr.coding import CodedConcept
from pydicom import Dataset
from pydicom.sr.coding import Code

from ..model import Series
from . import codes
from .context import Case


def image_library(case: Case) -> ContainerContentItem:
    """List every instance of both series; what the slices of a series share stands once, in their group.

    highdicom's own library repeats sixteen descriptors for each of the hundreds of slices.
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
    entries = [
        ImageContentItem(
            CodedConcept.from_code(codes.SOURCE),
            image.SOPClassUID,
            image.SOPInstanceUID,
            relationship_type=RelationshipTypeValues.CONTAINS,
        )
        for image in images
    ]
    group.ContentSequence = ContentSequence([said, *shared, *entries])
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
