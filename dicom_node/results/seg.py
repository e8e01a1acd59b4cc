"""Classes and lungs on the expiratory CT's own grid -> Segmentation (PS3.3 A.51), BINARY.

Where a frame fills no whole number of bytes (rows times columns is no multiple of 8), the bits of a BINARY Segmentation
run on from frame to frame (PS3.5 8.1.1). OHIF 3.13.2 then draws most frames in wrong places, and Orthanc 1.10.1 gives
none. Such a Segmentation is FRACTIONAL, with the values 0 and 255 only: a byte a pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from highdicom import (
    AlgorithmIdentificationSequence,
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
)
from highdicom.color import CIELabColor
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationFractionalTypeValues,
    SegmentationTypeValues,
    SegmentDescription,
)
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from analysis.figures.colours import CLASS_NAME, CLASS_RGB, LUNG_RGB, RGB
from analysis.pipeline.pipeline import Analysis
from analysis.vq.classes import VQClass

from . import codes
from .context import MODEL_NAME, Case, slice_of
from .kinds import Making

#: Segment numbers: the four classes first, the lungs behind them.
CLASS_SEGMENTS: Mapping[int, VQClass] = {
    1: VQClass.NORMAL,
    2: VQClass.DEAD_SPACE,
    3: VQClass.SHUNT,
    4: VQClass.MATCHED_DEFECT,
}
LUNG_SEGMENTS: Mapping[int, int] = {5: 1, 6: 2}
#: Region of `analysis.anatomy.regions.REGIONS` -> the segment that covers exactly this region.
REGION_SEGMENT: Mapping[str, int] = {"right": 5, "left": 6}
TITLES: Mapping[str, str] = {"seg": "SEG", "labelmap": "label map"}
#: Frames packed at a time, which limits the memory that unpacked ones take.
CHUNK = 8
#: Maximum Fractional Value (0062,000E): what a pixel of a segment is.
WHOLE = 255


def build(making: Making) -> Iterator[Dataset]:
    """Make the Segmentation; the report will reference it."""
    yield making.refer("sr", build_segmentation(making.analysis, making.case))


def build_segmentation(analysis: Analysis, case: Case) -> Segmentation:
    """Make segments normal, dead space, shunt, matched defect, right and left lung; a frame for every CT slice.

    Empty frames are kept, and every frame names its CT frame, because viewers misplace frames where some are missing.

    Parameters
    ----------
    analysis : Analysis
        `classes` and `lungs` are (k, j, i) on the grid of ``case.pair.expiratory``, slices in its order.
    case : Case

    Returns
    -------
    Segmentation
        Explicit VR Little Endian; in the CT's Study and Frame of Reference; ordered by segment, then slice.
    """
    grid = analysis.expiratory.shape
    # highdicom makes the attributes from an empty stand-in that takes no memory; the bits are packed below.
    empty = np.broadcast_to(np.uint8(0), (*grid, len(CLASS_SEGMENTS) + len(LUNG_SEGMENTS)))
    whole_bytes = grid[1] * grid[2] % 8 == 0
    how = SegmentationTypeValues.BINARY if whole_bytes else SegmentationTypeValues.FRACTIONAL
    ds = segmentation(analysis, case, "seg", empty, how)
    _fill(ds, analysis)
    return ds


def segmentation(
    analysis: Analysis, case: Case, kind: str, pixels: NDArray[np.uint8], how: SegmentationTypeValues
) -> Segmentation:
    """Make a Segmentation of all segments, with one kind of pixels, in the series of kind ``kind``."""
    slices = case.pair.expiratory.slices
    first = slices[0]
    ds = Segmentation(
        source_images=list(case.expiratory),
        pixel_array=pixels,
        segmentation_type=how,
        fractional_type=SegmentationFractionalTypeValues.OCCUPANCY,
        max_fractional_value=1,  # highdicom would multiply the stand-in, which cannot be written to
        segment_descriptions=_segments(analysis, case),
        **case.series_of(analysis, kind),
        omit_empty_frames=False,
        pixel_measures=PixelMeasuresSequence(first.spacing, first.thickness or case.pair.expiratory.gap,
                                             case.pair.expiratory.gap),
        plane_orientation=PlaneOrientationSequence("PATIENT", first.orientation),
        plane_positions=[PlanePositionSequence("PATIENT", s.position) for s in slices],
        content_label="VQ_CLASSES",
        content_description="Lung V/Q classes, research use only",
        series_description=f"V/Q classes {TITLES[kind]} (research use only)",
        coding_schemes=[codes.scheme_item()],
    )  # fmt: skip
    for keyword in ("BodyPartExamined", "PatientPosition"):
        if keyword in case.expiratory[0]:
            setattr(ds, keyword, case.expiratory[0].get(keyword))
    case.stamp(ds)
    return ds


def _segments(analysis: Analysis, case: Case) -> list[SegmentDescription]:
    algorithm = AlgorithmIdentificationSequence(
        name=MODEL_NAME, family=codes.ALGORITHM_FAMILY, version=analysis.version
    )

    def segment(
        number: int, label: str, category: Code, kind: Code, side: Code, rgb: RGB
    ) -> SegmentDescription:
        description = SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=category,
            segmented_property_type=kind,
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=case.uid(analysis, f"segment {number}"),
            tracking_id=label,
            anatomic_regions=[codes.LUNG],
            display_color=CIELabColor.from_rgb(*rgb),
        )
        region = description.AnatomicRegionSequence[0]
        region.AnatomicRegionModifierSequence = [CodedConcept.from_code(side)]
        return description

    normal = VQClass.NORMAL
    classes = [
        segment(
            number, CLASS_NAME[c],
            codes.ANATOMICAL_STRUCTURE if c is normal else codes.ABNORMAL_STRUCTURE,
            codes.CLASS_CODES[c], codes.BILATERAL, CLASS_RGB[c],
        )
        for number, c in CLASS_SEGMENTS.items()
    ]  # fmt: skip
    sides = {1: ("Right lung", codes.RIGHT), 2: ("Left lung", codes.LEFT)}
    lungs = [
        segment(number, sides[v][0], codes.ANATOMICAL_STRUCTURE, codes.LUNG, sides[v][1], LUNG_RGB[v])
        for number, v in LUNG_SEGMENTS.items()
    ]
    for description, (_, side) in zip(lungs, sides.values(), strict=True):
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept.from_code(side)]
    return [*classes, *lungs]


def _fill(ds: Segmentation, analysis: Analysis) -> None:
    """Fill Pixel Data from the analysis' arrays, in the order of the frames."""
    order = [
        (
            int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber),
            slice_of(frame, analysis.expiratory),
        )
        for frame in ds.PerFrameFunctionalGroupsSequence
    ]
    chunks = []
    for start in range(0, len(order), CHUNK):
        frames = [_mask(analysis, segment, k) for segment, k in order[start : start + CHUNK]]
        chunks.append(_packed(np.stack(frames), ds.BitsAllocated))
    data = b"".join(chunks)
    ds.PixelData = data + b"\0" * (len(data) % 2)
    if ds.SegmentationType == "FRACTIONAL":
        ds.MaximumFractionalValue = WHOLE
    # A voxel of a class is also a voxel of a lung.
    ds.SegmentsOverlap = "YES"


def _packed(masks: NDArray[np.bool_], bits: int) -> bytes:
    """Return frames as Pixel Data holds them: a bit a pixel, or a byte."""
    if bits == 1:
        return np.packbits(masks, bitorder="little").tobytes()
    return (masks * np.uint8(WHOLE)).tobytes()


def _mask(analysis: Analysis, segment: int, k: int) -> NDArray[np.bool_]:
    if segment in CLASS_SEGMENTS:
        return np.asarray(analysis.classes[k] == CLASS_SEGMENTS[segment])
    return np.asarray(analysis.lungs[k] == LUNG_SEGMENTS[segment])
