"""An array of HU and its grid -> Volume, checked; from arrays, SimpleITK images and files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Rejected
from .grid import Float, Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT volume in HU.

    Parameters
    ----------
    array : (k, j, i) int16 or float32
        Hounsfield units.
    grid : Grid
        Where the voxels lie.

    Raises
    ------
    Rejected
        Where shapes differ, values are not finite, or the image is constant.
    """

    array: NDArray[np.int16] | Float
    grid: Grid

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.dtype not in (np.int16, np.float32):
            raise Rejected(f"HU must be int16 or float32, not {array.dtype}")
        if array.shape != self.grid.shape:
            raise Rejected(f"an array of shape {array.shape} does not fit a grid of {self.grid.shape}")
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise Rejected("the image holds values that are not finite (NaN or infinity)")
        if array.min() == array.max():
            raise Rejected(f"the image is constant ({array.flat[0]} HU everywhere)")

    @classmethod
    def from_array(
        cls,
        array: NDArray[Any],
        spacing: tuple[float, float, float],
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Volume:
        """Return an axial array in HU: rows run to the back, columns to the patient's left, slices to the head.

        Parameters
        ----------
        array : (k, j, i) of any number type
            HU.
        spacing : (3,) float
            mm along k, j, i.
        origin : (3,) float
            LPS mm (x, y, z) of the centre of voxel (0, 0, 0).

        Raises
        ------
        Rejected
            As the class; also where the array does not have three axes.

        Examples
        --------
        >>> Volume.from_array(np.arange(24).reshape(2, 3, 4), (2.0, 1.0, 1.0))
        Volume(0 to 23 HU, Grid(2 x 3 x 4 voxels (k, j, i) of 2 x 1 x 1 mm))
        """
        if array.ndim != 3:
            raise Rejected(f"an array of three axes (k, j, i) is needed, not of {array.ndim}")
        return cls.from_affine(array, Grid.axial(_shape(array), spacing, origin).affine)

    @classmethod
    def from_affine(cls, array: NDArray[Any], affine: NDArray[np.float64]) -> Volume:
        """Return an array as an int16 volume; slices that descend along row x column are reversed.

        Parameters
        ----------
        array : (k, j, i) of any number type
            HU or labels; rounded, and clipped to -1024…32767.
        affine : (4, 4) float64
            Index (k, j, i, 1) of the array to LPS mm.

        Raises
        ------
        Rejected
            As the class.
        """
        if not np.isfinite(array).all():
            raise Rejected("the image holds values that are not finite (NaN or infinity)")
        mine = np.array(affine, dtype=np.float64)
        if np.linalg.det(mine[:3, :3]) > 0:
            array = array[::-1]
            mine[:3, 3] += mine[:3, 0] * (len(array) - 1)
            mine[:3, 0] *= -1
        values = np.ascontiguousarray(np.clip(np.rint(array), -1024, 32767).astype(np.int16))
        return cls(values, Grid(_shape(values), mine))

    @classmethod
    def from_sitk(cls, image: Any) -> Volume:
        """Return a SimpleITK image of three dimensions and one value a voxel as a volume.

        Parameters
        ----------
        image : SimpleITK.Image
            HU or labels.

        Raises
        ------
        Rejected
            As the class; also where the image has other dimensions or several values a voxel.
        """
        return cls.from_affine(*array_of(image))

    @classmethod
    def from_nifti(cls, path: str | Path) -> Volume:
        """Read a CT in HU from NIfTI, MetaImage, NRRD or any other file that SimpleITK reads.

        Raises
        ------
        Rejected
            Where the file cannot be read, says nothing of its orientation, or its values or its spacing are not those
            of a chest CT in HU and mm; the sentence names the file and what was found.
        """
        from .image_files import read_ct

        return read_ct(Path(path))

    def __repr__(self) -> str:
        return f"Volume({self.array.min():.0f} to {self.array.max():.0f} HU, {self.grid!r})"

    def crop(self, box: tuple[slice, slice, slice]) -> Volume:
        """The part of the volume inside ``box`` (a view, not a copy)."""
        return Volume(self.array[box], self.grid.crop(box))

    def coarsen(self, target_mm: float) -> Volume:
        """Average blocks of whole voxels until the spacing is close to ``target_mm`` (never above 1.15 of it).

        A block mean conserves mass exactly and is the anti-alias filter at once.

        Returns
        -------
        Volume
            float32; axes finer than the target are averaged, the others kept.
        """
        k, j, i = (max(1, int(1.15 * target_mm / s)) for s in self.grid.spacing)
        grid = self.grid.coarsen((k, j, i))
        n = grid.shape
        blocks = self.array[: n[0] * k, : n[1] * j, : n[2] * i].reshape(n[0], k, n[1], j, n[2], i)
        return Volume(blocks.mean(axis=(1, 3, 5), dtype=np.float32), grid)


def _shape(array: NDArray[Any]) -> tuple[int, int, int]:
    k, j, i = array.shape
    return k, j, i


def array_of(image: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the array (k, j, i) of a SimpleITK image, and its (4, 4) affine to LPS mm.

    Raises
    ------
    Rejected
        Where the image does not have three dimensions and one value a voxel.
    """
    import SimpleITK as sitk

    array = sitk.GetArrayFromImage(image)
    if array.ndim != 3:
        several = f" with {image.GetNumberOfComponentsPerPixel()} values a voxel" * (
            image.GetDimension() == 3
        )
        raise Rejected(f"an image of three dimensions is needed, not of {image.GetDimension()}{several}")
    return array, affine_of(image)


def affine_of(image: Any) -> NDArray[np.float64]:
    """Return the (4, 4) affine of a SimpleITK image: index (k, j, i, 1) to LPS mm."""
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3)[:, ::-1]
    affine[:3, :3] = directions * np.array(image.GetSpacing())[::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine
