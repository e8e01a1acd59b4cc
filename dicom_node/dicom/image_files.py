"""Images that are no CT series <-> arrays and their grids: whatever SimpleITK reads; NIfTI-1 out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from analysis.volume import Grid, Volume, affine_of


def image_volume(image: sitk.Image) -> tuple[Volume, NDArray[np.float64]]:
    """Return a volume, and the (4, 4) affine from the image's own (k, j, i), perhaps reversed, to LPS mm.

    Raises
    ------
    Rejected
        Where the image does not have three dimensions.
    """
    return Volume.from_sitk(image), affine_of(image)


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
