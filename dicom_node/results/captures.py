"""Pictures -> Secondary Capture (PS3.3 A.8.1): a series of fused slices for each layer, and the summary page.

JPEG Baseline (PS3.5 8.2.1): three series of a 400-slice CT are 0.9 GB uncompressed; these are pictures for people, the
numbers are in the Segmentation, the maps and the report.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEGBaseline8Bit, SecondaryCaptureImageStorage

from analysis.figures.captures import LAYERS, TITLES, lung_slices, painter, worst_slices
from analysis.figures.overview import overview
from analysis.pipeline.pipeline import Analysis
from analysis.volume import Labels, Volume

from . import codes
from .context import Case
from .kinds import Making, series_number

QUALITY = 92


@dataclass(frozen=True)
class Jpeg:
    """Hold a picture as JPEG Baseline."""

    data: bytes
    rows: int
    columns: int

    @classmethod
    def of(cls, picture: Labels) -> Jpeg:
        """Compress a picture, (rows, columns, 3) uint8, as JPEG Baseline."""
        buffer = BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY, subsampling="4:2:2")
        return cls(buffer.getvalue(), *picture.shape[:2])


def build(making: Making) -> Iterator[Dataset]:
    """Make the summary, then the slices, and keep the key images among them for the key object document."""
    analysis, case = making.analysis, making.case
    summary = build_summary(analysis, case)
    yield summary
    worst = {k + 1: order for order, k in enumerate(worst_slices(analysis))}
    chosen: dict[int, Dataset] = {}
    for ds in build_captures(analysis, case, making.load_ct()):
        if ds.SeriesNumber == series_number("capture classes") and int(ds.InstanceNumber) in worst:
            chosen[worst[int(ds.InstanceNumber)]] = ds
        yield ds
    for ds in (summary, *(chosen[n] for n in sorted(chosen))):
        making.refer("key_objects", ds)


def build_captures(analysis: Analysis, case: Case, ct: Volume, named: bool = False) -> Iterator[Dataset]:
    """Make a series in colour each for perfusion surrogate, ventilation and classes, of all slices with lung.

    Image Position, Image Orientation and Frame of Reference are the slice's own, so that viewers scroll together; the
    legend lies below the last row of the slice.

    Parameters
    ----------
    analysis : Analysis
    case : Case
    ct : Volume
        The expiratory CT, HU.
    named : bool
        Write patient and date into each picture.
    """
    for layer in LAYERS:
        kind = f"{'named ' * named}capture {layer}"
        series = case.begin(analysis, kind, SecondaryCaptureImageStorage, "OT", 1, JPEGBaseline8Bit)
        series.SeriesDescription = f"{TITLES[layer]}, colour{', named' * named} (research use only)"
        slices, paint = lung_slices(analysis), painter(analysis, ct, layer, case.style, case.who * named)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for k, jpeg in zip(
                slices, pool.map(lambda k, paint=paint: Jpeg.of(paint(k)), slices), strict=True
            ):
                ds = another(series, case.uid(analysis, f"{kind} instance {k + 1}"), k + 1)
                _place(ds, case, k)
                set_picture(ds, jpeg, named)
                case.stamp(ds)
                yield ds


def build_summary(analysis: Analysis, case: Case, named: bool = False) -> Dataset:
    """Make the page of three layers in three planes with the table of fractions, 1600 x 1200 pixels."""
    kind = f"{'named ' * named}summary"
    ds = case.begin(analysis, kind, SecondaryCaptureImageStorage, "OT", 1, JPEGBaseline8Bit)
    ds.SeriesDescription = f"V/Q summary{', named' * named} (research use only)"
    ds.PatientOrientation = ""
    figure = overview(analysis, case.style, case.who * named)
    figure.canvas.draw()
    set_picture(ds, Jpeg.of(np.asarray(figure.canvas.buffer_rgba())[..., :3]), named)
    case.stamp(ds)
    return ds


def another(series: Dataset, sop_instance_uid: UID, number: int) -> Dataset:
    """Make one more instance of a series from the shared attributes, which take longer to make than a picture."""
    ds = deepcopy(series)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = sop_instance_uid
    ds.InstanceNumber = number
    return ds


def _place(ds: Dataset, case: Case, k: int) -> None:
    """Set where the slice lies (PS3.3 C.7.6.2) and which image it was made from (C.7.6.1.1.4)."""
    source, slice_ = case.expiratory[min(k, len(case.expiratory) - 1)], case.pair.expiratory.slices[k]
    ds.FrameOfReferenceUID = source.FrameOfReferenceUID
    ds.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    ds.ImagePositionPatient = list(slice_.position)
    ds.ImageOrientationPatient = list(slice_.orientation)
    ds.PatientOrientation = [_letters(slice_.orientation[:3]), _letters(slice_.orientation[3:])]
    ds.PixelSpacing = list(slice_.spacing)
    ds.SliceThickness = slice_.thickness or case.pair.expiratory.gap
    if "PatientPosition" in source:
        ds.PatientPosition = source.PatientPosition
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = slice_.sop_instance_uid
    if source.get("NumberOfFrames"):
        reference.ReferencedFrameNumber = slice_.frame
    reference.PurposeOfReferenceCodeSequence = [codes.item(codes.SOURCE_FOR_PROCESSING)]
    ds.SourceImageSequence = [reference]


def _letters(direction: Sequence[float]) -> str:
    """Return the letters of a direction, the strongest first (PS3.3 C.7.6.1.1.1).

    Examples
    --------
    >>> _letters((0.0, 0.8, -0.6))
    'PF'
    """
    named = zip(direction, ("LR", "PA", "HF"), strict=True)
    parts = sorted(((abs(d), letters[d < 0]) for d, letters in named if abs(d) > 0.1), reverse=True)
    return "".join(letter for _, letter in parts)


def set_picture(ds: Dataset, jpeg: Jpeg, named: bool = False) -> None:
    """Set the pixels; ``named``: patient and date are written into them."""
    ds.BodyPartExamined = "CHEST"
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.BurnedInAnnotation = "YES" if named else "NO"
    ds.DerivationDescription = "Colour over CT. Research use only; Q is a surrogate of perfusion."
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "YBR_FULL_422"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = jpeg.rows, jpeg.columns
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    ds.LossyImageCompression = "01"
    ds.LossyImageCompressionRatio = f"{3 * jpeg.rows * jpeg.columns / len(jpeg.data):.1f}"
    ds.LossyImageCompressionMethod = "ISO_10918_1"
    ds.PixelData = encapsulate([jpeg.data])
    ds["PixelData"].is_undefined_length = True
