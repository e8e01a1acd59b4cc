"""A grid of any orientation -> its axes as the patient's: z up, y back, x left."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from ..volume import Grid


@dataclass(frozen=True)
class PatientAxes:
    """Hold which array axes are nearest to the patient's z, y, x, which run backwards, and their spacing (mm).

    Parameters
    ----------
    order : (3,) int
        The axes of the array along the patient's z (up), y (back) and x (left).
    flips : (3,) slice
        How each is read so that it ascends.
    spacing : (3,) float
        mm along z, y, x.
    """

    order: tuple[int, int, int]
    flips: tuple[slice, slice, slice]
    spacing: tuple[float, float, float]

    @classmethod
    def of(cls, grid: Grid) -> PatientAxes:
        """Return the axes of a grid of any orientation."""
        cosines = grid.directions[::-1]  # rows z, y, x; columns k, j, i
        z, y, x = max(permutations(range(3)), key=lambda p: sum(abs(cosines[n, a]) for n, a in enumerate(p)))
        flips = [slice(None, None, 1 if cosines[n, a] > 0 else -1) for n, a in enumerate((z, y, x))]
        s = grid.spacing
        return cls((z, y, x), (flips[0], flips[1], flips[2]), (s[z], s[y], s[x]))

    def to_patient(self, array: np.ndarray) -> np.ndarray:
        """Return a copy of a (k, j, i) array on (z up, y back, x left)."""
        return np.ascontiguousarray(np.transpose(array, self.order)[self.flips])

    def from_patient(self, array: np.ndarray) -> np.ndarray:
        """Return a view of a (z, y, x) array on (k, j, i)."""
        return np.transpose(array[self.flips], np.argsort(self.order))
