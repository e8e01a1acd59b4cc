"""A thorax half its size as image files, with its own displacement field: a case of a second or two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from analysis.truth.phantom import ThoraxShape, thorax_phantom
from analysis.volume import Grid

SCALE = 0.5
#: What the analysis of it needs to be told.
SETTINGS = ("--set", f"grid_mm={5 * SCALE:g}", "--set", "accept_failed_checks=true")


@dataclass(frozen=True)
class Tiny:
    """Paths of inspiration, expiration and the field from expiration to inspiration."""

    insp: Path
    exp: Path
    field: Path


def tiny_thorax(folder: Path, seed: int = 1) -> Tiny:
    """Write the phantom as NIfTI and its field as MetaImage."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = thorax_phantom(shape=ThoraxShape(in_plane_mm=5.0, slice_mm=5), seed=seed)
    found = Tiny(folder / "insp.nii.gz", folder / "exp.nii.gz", folder / "field.mha")
    write_scaled(found.insp, truth.inspiratory.array, truth.inspiratory.grid)
    write_scaled(found.exp, truth.expiratory.array, truth.expiratory.grid)
    write_scaled(found.field, truth.displacement * np.float32(SCALE), truth.expiratory.grid)
    return found


def write_scaled(path: Path, array: np.ndarray, grid: Grid) -> None:
    """Write an array of a grid with lengths times `SCALE`, as the ending of the path says."""
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    image.SetSpacing([SCALE * mm for mm in grid.spacing[::-1]])
    image.SetOrigin([SCALE * mm for mm in grid.affine[:3, 3]])
    image.SetDirection(grid.directions[:, ::-1].ravel().tolist())
    sitk.WriteImage(image, str(path))
