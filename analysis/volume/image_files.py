"""Image files that are no DICOM (NIfTI, MetaImage, NRRD …) -> a CT, a mask or a displacement field, checked.

Whatever SimpleITK reads is read; it gives every format in LPS and mm. What a file leaves open is refused, not guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Rejected
from .displacement import DisplacementField
from .grid import Grid
from .volume import Volume, affine_of

#: Plausible edges of a CT's voxel, mm.
SPACING_MM = (0.1, 12.0)
#: The darkest hundredth of a chest CT is air: HU below this.
AIR_HU = -700.0
#: NIfTI's header says with this number that an orientation is not known.
UNKNOWN = "0"


def is_image_file(path: Path) -> bool:
    """Return whether a path is a file that SimpleITK reads and that is no DICOM."""
    return path.is_file() and _format(path) not in ("", "GDCMImageIO")


def read_ct(path: Path) -> Volume:
    """Read a chest CT in HU from a file that is no DICOM; see `volume.Volume.from_nifti`."""
    image = _read(path)
    try:
        volume = Volume.from_sitk(image)
    except Rejected as error:
        raise Rejected(f"{path.name}: {error}") from error
    darkest, brightest = (float(v) for v in np.percentile(volume.array[::2, ::4, ::4], (1, 99.9)))
    if darkest > AIR_HU:
        raise Rejected(
            f"{path.name} is not in HU: its values run from {darkest:.0f} to {brightest:.0f}, but air is near -1000 HU"
            " (was the rescale intercept left out?)"
        )
    return volume


def read_mask(path: Path) -> Volume:
    """Read labels, 0 outside, from a file that is no DICOM; where they lie is checked, not what they mean.

    Raises
    ------
    Rejected
        Where the file cannot be read, holds fractions, or is the same everywhere.
    """
    image = _read(path)
    try:
        volume = Volume.from_sitk(image)
    except Rejected as error:
        raise Rejected(f"{path.name}: {error}") from error
    if volume.array.min() < 0:
        raise Rejected(f"{path.name} is no mask: its lowest value is {volume.array.min()}, expected 0")
    return volume


def read_displacement(path: Path) -> DisplacementField:
    """Read a displacement field in mm: vectors in LPS, as ITK, ANTs and elastix write them; or our own exported file.

    Raises
    ------
    Rejected
        Where the file cannot be read or does not hold three values a voxel.
    """
    image = _read(path)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 3:
        raise Rejected(
            f"{path.name} is no displacement field: it has {image.GetDimension()} dimensions and"
            f" {image.GetNumberOfComponentsPerPixel()} values a voxel, expected 3 and 3"
        )
    import SimpleITK as sitk

    vectors: NDArray[np.float32] = sitk.GetArrayFromImage(image).astype(np.float32)
    notes = image.GetMetaData("ITK_FileNotes") if image.HasMetaDataKey("ITK_FileNotes") else ""
    if "RAS" in notes:  # `dicom-node export` writes NIfTI's own world, and says so
        vectors = vectors * np.array([-1, -1, 1], dtype=np.float32)
    affine = affine_of(image)
    if np.linalg.det(affine[:3, :3]) > 0:
        vectors = vectors[::-1]
        affine[:3, 3] += affine[:3, 0] * (len(vectors) - 1)
        affine[:3, 0] *= -1
    return DisplacementField(np.ascontiguousarray(vectors), Grid(vectors.shape[:3], affine))


def _format(path: Path) -> str:
    import SimpleITK as sitk

    return str(sitk.ImageFileReader.GetImageIOFromFileName(str(path)))


def _read(path: Path) -> Any:
    import SimpleITK as sitk

    if not path.is_file():
        raise Rejected(f"{path.name} is not there")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise Rejected(f"{path.name} cannot be read as an image") from error
    codes = [image.GetMetaData(key) for key in ("qform_code", "sform_code") if image.HasMetaDataKey(key)]
    if codes and all(code == UNKNOWN for code in codes):
        raise Rejected(
            f"{path.name} says nothing of its orientation (NIfTI qform_code and sform_code are 0):"
            " left and right cannot be told"
        )
    spacing = [float(mm) for mm in image.GetSpacing()[:3]]
    if not all(SPACING_MM[0] <= mm <= SPACING_MM[1] for mm in spacing):
        found = " x ".join(f"{mm:.4g}" for mm in spacing)
        raise Rejected(
            f"{path.name} has voxels of {found}: expected {SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm (is the unit mm?)"
        )
    return image
