"""Lung labels -> regions: the whole lung, left, right, three zones of each; lobes where they are given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..volume import Grid, Labels

#: name of a lobe -> words for a report; the order is that of their labels, from 1.
LOBES: Mapping[str, str] = {
    "right_upper_lobe": "Right upper lobe",
    "right_middle_lobe": "Right middle lobe",
    "right_lower_lobe": "Right lower lobe",
    "left_upper_lobe": "Left upper lobe",
    "left_lower_lobe": "Left lower lobe",
}

#: name of a region -> words for a report; the order is the order of reports. Lobes only where a mask of them is given.
REGIONS: Mapping[str, str] = {
    "lungs": "Both lungs",
    "right": "Right lung",
    "left": "Left lung",
    "right_upper": "Right upper zone",
    "right_middle": "Right middle zone",
    "right_lower": "Right lower zone",
    "left_upper": "Left upper zone",
    "left_middle": "Left middle zone",
    "left_lower": "Left lower zone",
    **LOBES,
}

#: The regions a reader looks at first.
WHOLE = ("lungs", "right", "left")

#: name of a region -> the zones it is made of: 1-3 right upper, middle, lower; 4-6 left.
ZONES_OF: Mapping[str, tuple[int, ...]] = {
    "lungs": (1, 2, 3, 4, 5, 6),
    "right": (1, 2, 3),
    "left": (4, 5, 6),
    "right_upper": (1,),
    "right_middle": (2,),
    "right_lower": (3,),
    "left_upper": (4,),
    "left_middle": (5,),
    "left_lower": (6,),
}

#: name of a region -> its labels: among the zones, or among the lobes.
LABELS_OF: Mapping[str, tuple[int, ...]] = {**ZONES_OF, **{name: (n,) for n, name in enumerate(LOBES, 1)}}


def zones(lungs: Labels, grid: Grid) -> Labels:
    """Return the zone of every lung voxel: thirds of each lung's height along the patient's head-foot axis.

    Parameters
    ----------
    lungs : (k, j, i) uint8
        1 right, 2 left.
    grid : Grid
        Where the voxels lie; any orientation.

    Returns
    -------
    (k, j, i) uint8
        0 none; 1, 2, 3 right upper, middle, lower; 4, 5, 6 left.
    """
    out = np.zeros(grid.shape, dtype=np.uint8)
    for lung in (1, 2):
        index = np.nonzero(lungs == lung)
        if index[0].size == 0:
            continue
        height = sum(
            n.astype(np.float32) * np.float32(c) for n, c in zip(index, grid.affine[2], strict=False)
        )
        bottom, top = np.percentile(height, [0.1, 99.9])
        third = np.clip(((top - height) / max(top - bottom, 1e-6) * 3).astype(int), 0, 2)
        out[index] = 3 * (lung - 1) + 1 + third
    return out
