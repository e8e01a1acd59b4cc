"""A mask of lobes, or a program that draws one -> labels as analysis.Volume (`analysis.pipeline.lobes` names them)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from highdicom.seg import segread
from pydicom.misc import is_dicom

from analysis.volume import Volume

from ..errors import Rejected
from .image_files import image_volume
from .malformed import MALFORMED

#: Property types of lobes in a Segmentation that also name the side: left and right upper, right and left lower.
LOBES = frozenset({"45653009", "72481006", "90572001", "42400003", "44714003", "266005", "41224006"})


def read_lobes(path: Path) -> Volume:
    """Read a lobe mask: a DICOM Segmentation with coded lobes, or labels in any format SimpleITK reads.

    Raises
    ------
    Rejected
        Where the file cannot be read, or a Segmentation holds no segment coded as a lobe.
    """
    if not path.is_file():
        raise Rejected(f"{path} is not there")
    try:
        if is_dicom(path):
            return _from_segmentation(path)
        return image_volume(sitk.ReadImage(str(path)))[0]
    except (*MALFORMED, RuntimeError) as error:
        raise Rejected(f"{path} cannot be read as a lobe mask ({type(error).__name__})") from error


def _from_segmentation(path: Path) -> Volume:
    seg = segread(path)
    numbers = [
        n
        for n in seg.segment_numbers
        if seg.get_segment_description(n).segmented_property_type.value in LOBES
    ]
    if not numbers:
        raise Rejected(f"{path} holds no segment coded as a lobe of the lung")
    volume = seg.get_volume(segment_numbers=numbers, combine_segments=True)
    return Volume.from_affine(np.asarray(volume.array), np.asarray(volume.affine, dtype=np.float64))
