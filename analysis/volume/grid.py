"""Shape and place of an array of voxels in the patient; see the conventions of this room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import Rejected

Float = NDArray[np.float32]
Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape and place of an array of voxels.

    Parameters
    ----------
    shape : (3,) int
        Voxels along k, j, i.
    affine : (4, 4) float64
        Index (k, j, i, 1) to LPS mm (x, y, z, 1). Columns must be orthogonal and right-handed.

    Raises
    ------
    Rejected
        Where the shape or the affine describes no right-handed, rectangular grid.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise Rejected("the affine of a grid must be a finite 4 x 4 matrix")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise Rejected(f"a grid needs three axes of at least one voxel, not {self.shape}")
        steps = affine[:3, :3]
        lengths = np.linalg.norm(steps, axis=0)
        if lengths.min() <= 0:
            raise Rejected("the voxel spacing of a grid must be positive")
        cosines = steps / lengths
        if np.abs(cosines.T @ cosines - np.eye(3)).max() > 1e-3:
            raise Rejected("the axes of a grid must be orthogonal (is the gantry tilted?)")
        if np.linalg.det(cosines) > 0:
            raise Rejected("slices must ascend along row x column (a mirrored grid)")
        affine.flags.writeable = False
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", affine)

    @classmethod
    def axial(
        cls,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float],
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Grid:
        """Axis-aligned grid: i to the patient's left (x), j to the back (y), k to the head (z).

        Parameters
        ----------
        shape : (3,) int
            Voxels along k, j, i.
        spacing : (3,) float
            mm along k, j, i.
        origin : (3,) float
            LPS mm (x, y, z) of the centre of voxel (0, 0, 0).

        Examples
        --------
        >>> Grid.axial((10, 20, 30), (2.0, 1.0, 0.5)).points(np.array([[1, 2, 3]]))
        array([[1.5, 2. , 2. ]])
        """
        affine = np.eye(4)
        affine[:3, :3] = [[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]]
        affine[:3, 3] = origin
        return cls(shape, affine)

    def __repr__(self) -> str:
        spacing = " x ".join(f"{mm:.3g}" for mm in self.spacing)
        return f"Grid({' x '.join(map(str, self.shape))} voxels (k, j, i) of {spacing} mm)"

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm along k, j, i."""
        k, j, i = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(k), float(j), float(i)

    @property
    def directions(self) -> NDArray[np.float64]:
        """(3, 3) unit vectors in LPS as columns, of k, j and i."""
        return self.affine[:3, :3] / np.array(self.spacing)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(np.prod(self.spacing)) / 1000.0

    def points(self, indices: NDArray[np.float64]) -> NDArray[np.float64]:
        """LPS mm (n, 3) of the (n, 3) indices (k, j, i)."""
        return np.asarray(indices, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def indices(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractional indices (k, j, i), (n, 3), of the (n, 3) LPS points in mm."""
        inverse = np.linalg.inv(self.affine[:3, :3])
        return (np.asarray(points, dtype=np.float64) - self.affine[:3, 3]) @ inverse.T

    def centres(self) -> Float:
        """LPS mm (k, j, i, 3), float32, of every voxel."""
        axes = (np.arange(n, dtype=np.float32) for n in self.shape)
        index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        return index @ self.affine[:3, :3].T.astype(np.float32) + self.affine[:3, 3].astype(np.float32)

    def crop(self, box: tuple[slice, slice, slice]) -> Grid:
        """The grid of ``array[box]``; slices with non-negative start and stop, step 1."""
        start = [s.start for s in box]
        shape = (box[0].stop - start[0], box[1].stop - start[1], box[2].stop - start[2])
        affine = self.affine.copy()
        affine[:3, 3] = self.points(np.array([start], dtype=np.float64))[0]
        return Grid(shape, affine)

    def coarsen(self, factors: tuple[int, int, int]) -> Grid:
        """The grid whose voxels are blocks of ``factors`` voxels; a partial last block is dropped."""
        shape = (self.shape[0] // factors[0], self.shape[1] // factors[1], self.shape[2] // factors[2])
        affine = self.affine.copy()
        affine[:3, :3] = affine[:3, :3] * np.array(factors)
        affine[:3, 3] = self.points((np.array([factors], dtype=np.float64) - 1) / 2)[0]
        return Grid(shape, affine)
