"""One slice with the header it was read with, and where the slices of a stack lie (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..model import ACQUISITION, Header, Slice


@dataclass(frozen=True)
class Member:
    """Hold one slice and the header of its instance."""

    header: Header
    slice: Slice

    def acquired_as(self, name: str) -> str:
        """Return one of the values of `Slice.acquisition`, by its name in `ACQUISITION`."""
        return self.slice.acquisition[ACQUISITION.index(name)]


class NoStack(Exception):
    """Signal that some slices are no stack; the message is the reason.

    Parameters
    ----------
    reason : str
    incomplete : bool
        True where slices are missing that may still come.
    """

    def __init__(self, reason: str, *, incomplete: bool = False) -> None:
        super().__init__(reason)
        self.incomplete = incomplete


def along(stack: Sequence[Member]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where each slice lies along row x column (n,), and in the plane (n, 2) (mm)."""
    row, column = np.reshape(stack[0].slice.orientation, (2, 3)).astype(np.float64)
    positions = np.array([m.slice.position for m in stack], dtype=np.float64)
    return positions @ np.cross(row, column), positions @ np.column_stack([row, column])


def place(m: Member) -> str:
    """Return where a slice lies along the axis that its normal is closest to, as messages show it: "z=-210.5"."""
    row, column = np.reshape(m.slice.orientation, (2, 3))
    axis = int(np.argmax(np.abs(np.cross(row, column))))
    return f"{'xyz'[axis]}={m.slice.position[axis]:g}"
