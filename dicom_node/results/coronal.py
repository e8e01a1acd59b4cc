"""Coronal slabs in colour -> Secondary Capture (PS3.3 A.8.1), a series each for Q, V and classes."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage

from analysis.figures.captures import LAYERS, TITLES
from analysis.figures.edges import edge_letters
from analysis.figures.slabs import Place, place_of_slab, slab_painter, slabs
from analysis.pipeline.pipeline import Analysis
from analysis.volume import Volume

from .captures import Jpeg, another, set_picture
from .context import Case
from .kinds import Making


def build(making: Making) -> Iterator[Dataset]:
    """Make the three series."""
    yield from build_slabs(making.analysis, making.case, making.load_ct(), "coronal")


def build_slabs(analysis: Analysis, case: Case, ct: Volume, plane: str) -> Iterator[Dataset]:
    """Make a series each for Q, V and classes of all slabs with lung, thick as `PictureStyle.slab_mm` says.

    Parameters
    ----------
    analysis : Analysis
    case : Case
    ct : Volume
        The expiratory CT, HU.
    plane : {"coronal", "sagittal"}
    """
    for layer in LAYERS:
        kind = f"{plane} {layer}"
        series = case.begin(analysis, kind, SecondaryCaptureImageStorage, "OT", 1, JPEGBaseline8Bit)
        series.SeriesDescription = f"{TITLES[layer]}, {plane} colour (research use only)"
        paint = slab_painter(analysis, ct, layer, plane, case.style)
        for number, slab in enumerate(slabs(analysis, plane, case.style.slab_mm), 1):
            ds = another(series, case.uid(analysis, f"{kind} instance {number}"), number)
            _place(ds, case, place_of_slab(analysis.expiratory, plane, slab))
            set_picture(ds, Jpeg.of(paint(slab)))
            case.stamp(ds)
            yield ds


def _place(ds: Dataset, case: Case, place: Place) -> None:
    """Set where the slab lies, in the frame of reference of the CT (PS3.3 C.7.6.2)."""
    source = case.expiratory[0]
    ds.FrameOfReferenceUID = source.FrameOfReferenceUID
    ds.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    ds.ImagePositionPatient = [format(c, ".8g") for c in place.position]
    ds.ImageOrientationPatient = [format(c, ".8g") for c in place.orientation]
    _, right, _, below = edge_letters(place.orientation[:3], place.orientation[3:])
    ds.PatientOrientation = [right.translate(DICOM), below.translate(DICOM)]
    ds.PixelSpacing = [place.pixel_mm, place.pixel_mm]
    ds.SliceThickness = format(place.thickness_mm, ".6g")
    if "PatientPosition" in source:
        ds.PatientPosition = source.PatientPosition


#: DICOM says head and foot where pictures say superior and inferior (PS3.3 C.7.6.1.1.1).
DICOM = str.maketrans("SI", "HF")
