"""A displacement field of one's own: vectors in mm and where they stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import Rejected
from .grid import Float, Grid


@dataclass(frozen=True, eq=False)
class DisplacementField:
    """Hold a displacement field of one's own: from every point of expiration to the same tissue on inspiration.

    Parameters
    ----------
    vectors : (k, j, i, 3) float32
        u(x), mm, LPS (x, y, z): x + u(x) is the inspiratory point of expiratory point x.
    grid : Grid
        Where the vectors stand; any grid that covers the expiratory lungs.

    Raises
    ------
    Rejected
        Where the shapes differ or a value is not finite.
    """

    vectors: Float
    grid: Grid

    def __post_init__(self) -> None:
        if self.vectors.shape != (*self.grid.shape, 3):
            raise Rejected(
                f"vectors of shape {self.vectors.shape} do not fit a grid of {self.grid.shape}:"
                " three values a voxel are needed"
            )
        if not np.isfinite(self.vectors).all():
            raise Rejected("the displacement field holds values that are not finite (NaN or infinity)")

    def __repr__(self) -> str:
        longest = float(np.sqrt((self.vectors**2).sum(axis=-1)).max())
        return f"DisplacementField(up to {longest:.1f} mm, {self.grid!r})"
