"""Images that are no CT series <-> arrays and their grids: whatever SimpleITK reads; NIfTI-1 out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from analysis.volume import Grid, Volume

from ..errors import Rejected


def volume_of(array: NDArray[Any], affine: NDArray[np.float64]) -> Volume:
    """Return an array as an int16 volume; slices that descend along row x column are reversed.

    Parameters
    ----------
    array : (k, j, i)
        HU or labels; clipped to -1024…32767.
    affine : (4, 4) float64
        (k, j, i) to LPS mm.
    """
    mine = affine.copy()
    if np.linalg.det(mine[:3, :3]) > 0:
        array = array[::-1]
        mine[:3, 3] += mine[:3, 0] * (len(array) - 1)
        mine[:3, 0] *= -1
    values = np.ascontiguousarray(np.clip(array, -1024, 32767).astype(np.int16))
    return Volume(values, Grid(values.shape, mine))


def image_volume(image: sitk.Image) -> tuple[Volume, NDArray[np.float64]]:
    """Return a volume, and the (4, 4) affine from the image's own (k, j, i), perhaps reversed, to LPS mm.

    Raises
    ------
    Rejected
        Where the image does not have three dimensions.
    """
    array = sitk.GetArrayFromImage(image)
    if array.ndim != 3:
        raise Rejected(f"an image of three dimensions is needed, not of {array.ndim}")
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3)[:, ::-1]
    affine[:3, :3] = directions * np.array(image.GetSpacing())[::-1]
    affine[:3, 3] = image.GetOrigin()
    return volume_of(array, affine), affine


def write_nifti(
    path: Path, array: NDArray[Any], grid: Grid, meaning: str = "", compressed: bool = True
) -> None:
    """Write an array (k, j, i), or vectors (k, j, i, 3), as NIfTI-1: qform and sform from the grid, RAS, mm.

    Parameters
    ----------
    path : Path
        ``*.nii.gz``.
    meaning : str
        The header's descrip, at most 79 characters.
    compressed : bool
        Whether to compress the file with gzip, which takes seconds for a CT.

    Raises
    ------
    RuntimeError
        From SimpleITK, where the file cannot be written.
    """
    made = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    made.SetSpacing(grid.spacing[::-1])
    made.SetOrigin(grid.affine[:3, 3].tolist())
    made.SetDirection(grid.directions[:, ::-1].ravel().tolist())
    made.SetMetaData("ITK_FileNotes", meaning)
    sitk.WriteImage(made, str(path), useCompression=compressed)
