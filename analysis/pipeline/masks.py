"""Lung masks that a user brings -> right and left lung on a phase's working grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..anatomy.axes import PatientAxes
from ..anatomy.lungs import LungSegmentation, segment
from ..anatomy.morphology import pieces
from ..anatomy.sides import MIN_LUNG_ML, Lung, sides
from ..errors import Rejected
from ..volume import Float, Grid, Labels, Volume

#: The median HU of lungs lies below this, of consolidated ones, too.
LUNG_HU = -300.0


def nearest(mask: Volume, grid: Grid) -> NDArray[np.uint16]:
    """Return a mask's labels (k, j, i) at the voxels of another grid; 0 outside the mask."""
    index = np.rint(mask.grid.indices(grid.centres().reshape(-1, 3).astype(np.float64))).astype(np.intp)
    within = ((index >= 0) & (index < mask.grid.shape)).all(axis=1)
    out = np.zeros(len(index), dtype=np.uint16)
    out[within] = np.asarray(mask.array)[tuple(index[within].T)]
    return out.reshape(grid.shape)


def with_own_lungs(whole: Volume, mask: Volume) -> LungSegmentation:
    """Return a user's lungs as `segment` would return its own; the airways are found as always.

    Parameters
    ----------
    whole : Volume
        The CT, averaged to the working grid.
    mask : Volume
        One label for both lungs, or one for each: which is right is told by where they lie. Any grid.

    Raises
    ------
    Rejected
        Where the mask holds other labels, or less lung on the CT than a lung has.
    """
    drawn = nearest(mask, whole.grid)
    numbers = [int(n) for n in np.unique(drawn) if n]
    if len(numbers) not in (1, 2):
        raise Rejected(
            f"the lung mask has {len(numbers)} labels on the CT, expected one for both lungs or one for each"
        )
    labels = _split(drawn > 0, whole) if len(numbers) == 1 else _by_place(drawn, numbers, whole.grid)
    found_ml = float((labels > 0).sum()) * whole.grid.voxel_ml
    if found_ml < MIN_LUNG_ML:
        raise Rejected(
            f"the lung mask holds {found_ml:.0f} ml of lung on the CT, expected at least {MIN_LUNG_ML:g} ml"
        )
    middle_hu = float(np.median(np.asarray(whole.array, dtype=np.float32)[labels > 0]))
    if middle_hu > LUNG_HU:
        raise Rejected(
            f"the lung mask lies on tissue of {middle_hu:.0f} HU (median), expected below {LUNG_HU:g} HU:"
            " is it of this CT, and in the same orientation?"
        )
    try:
        airways = segment(whole).airways
    except Rejected:  # a CT whose lungs are not found is what a mask is brought for
        airways = np.zeros(whole.grid.shape, dtype=np.bool_)
    return LungSegmentation(labels, airways & (labels == 0))


def _by_place(drawn: NDArray[np.uint16], numbers: list[int], grid: Grid) -> Labels:
    """Label two lungs: the one further to the patient's right (lower x) is the right one."""
    x = [grid.points(np.argwhere(drawn == n).mean(axis=0)[None])[0, 0] for n in numbers]
    right, left = (numbers[n] for n in np.argsort(x))
    labels = np.zeros(drawn.shape, dtype=np.uint8)
    labels[drawn == right], labels[drawn == left] = Lung.RIGHT, Lung.LEFT
    return labels


def _split(inside: NDArray[np.bool_], whole: Volume) -> Labels:
    """Tell right from left in a mask that has one label for both, as for lungs that we find."""
    axes = PatientAxes.of(whole.grid)
    hu: Float = axes.to_patient(np.asarray(whole.array, dtype=np.float32))
    parts, sizes = pieces(axes.to_patient(inside))
    order = np.argsort(-sizes[1:], kind="stable")[:254] + 1
    renumber = np.zeros(len(sizes), dtype=np.uint8)
    renumber[order] = np.arange(1, len(order) + 1)
    return np.ascontiguousarray(axes.from_patient(sides(renumber[parts], axes.spacing, hu, None)))
