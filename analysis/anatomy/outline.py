"""Lungs and HU -> numbers that tell a wrong outline: gas in it, loose pieces, pits in its underside.

`lungs.segment` takes out what it knows. These numbers are there for what it does not: they look at the outline only, so
that they hold for lungs from elsewhere too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..volume import Float, Labels, Mask, Volume
from .axes import PatientAxes
from .gas import CORE_MM, GAS_HU, MEAN_MM, SHELL_MM
from .morphology import Spacing, bounding_box, dilate, grow_box, opening, pieces

GAS_ML = 3.0
WALLED = 0.4  # share of tissue around gas: at most .28 in emphysema, from .51 in bowel
PIT_MM = 15.0
PIT_RADIUS_MM = 30.0


@dataclass(frozen=True)
class Outline:
    """Hold what the outline of the lungs looks like.

    Parameters
    ----------
    gas_ml : float
        Pure gas within the outline with tissue around it, mL: bowel, a pneumothorax or a bulla at the pleura.
    loose_ml : float
        Volume not joined to either lung's largest piece, mL.
    pit_ml : float
        Volume hanging from the lungs' underside, deeper than 15 mm and narrower than 60 mm, mL: gas below the
        diaphragm that was taken for lung.

    Notes
    -----
    On ten real CT volumes with a right outline `gas_ml` is 0, `loose_ml` at most .2 and `pit_ml` 1 to 278 (the sulci
    before and behind the domes). A stomach of 290 mL taken for lung gave 193 and 585 mL of the first and the last.
    """

    gas_ml: float
    loose_ml: float
    pit_ml: float

    @classmethod
    def of(cls, labels: Labels, volume: Volume) -> Outline:
        """Measure the outline of the lungs.

        Parameters
        ----------
        labels : (k, j, i) uint8
            1 right, 2 left.
        volume : Volume
            HU on the same grid, of any orientation.
        """
        box = bounding_box(labels > 0)
        if box is None:
            return cls(0.0, 0.0, 0.0)
        box = grow_box(box, 2 * SHELL_MM[1], volume.grid.spacing, labels.shape)
        axes = PatientAxes.of(volume.grid)
        lungs = axes.to_patient(labels[box])
        hu = axes.to_patient(np.asarray(volume.array[box], dtype=np.float32))
        return cls(
            walled_gas_ml(lungs > 0, hu, axes.spacing),
            loose_ml(lungs, axes.spacing),
            pit_ml(lungs > 0, axes.spacing),
        )


def walled_gas_ml(lung: Mask, hu: Float, spacing: Spacing) -> float:
    """Return `Outline.gas_ml`, from (z, y, x) bool and float32."""
    mean = ndimage.gaussian_filter(hu, [MEAN_MM / s for s in spacing], truncate=2)
    seeds, sizes = pieces(opening(lung & (mean < GAS_HU), CORE_MM, spacing))
    boxes = ndimage.find_objects(seeds)
    ml = float(np.prod(spacing)) / 1000
    found = 0.0
    for n in np.flatnonzero(sizes * ml >= GAS_ML):
        box = grow_box(boxes[n - 1], 2 * SHELL_MM[1], spacing, lung.shape)
        own = seeds[box] == n
        shell = dilate(own, SHELL_MM[1], spacing) & ~dilate(own, SHELL_MM[0], spacing)
        if shell.any() and 1 - float(lung[box][shell].mean()) >= WALLED:
            found += float(sizes[n]) * ml
    return found


def loose_ml(labels: Labels, spacing: Spacing) -> float:
    """Return `Outline.loose_ml`, from (z, y, x) uint8."""
    loose = 0
    for lung in np.unique(labels[labels > 0]).tolist():
        _, sizes = pieces(labels == lung)
        loose += int(sizes.sum() - sizes.max())
    return loose * float(np.prod(spacing)) / 1000


def pit_ml(lung: Mask, spacing: Spacing) -> float:
    """Return `Outline.pit_ml`, from (z, y, x) bool.

    The underside is a surface over the columns of the body. Closing it by a disc fills its pits; the sulcus at the
    chest wall is not a pit, because one of its sides is not lung.
    """
    columns = lung.any(axis=0)
    floor = np.where(columns, lung.argmax(axis=0) * spacing[0], -1e4)
    radius = [round(PIT_RADIUS_MM / s) for s in spacing[1:]]
    y, x = np.ogrid[-radius[0] : radius[0] + 1, -radius[1] : radius[1] + 1]
    disc = (y / radius[0]) ** 2 + (x / radius[1]) ** 2 <= 1
    padded = np.pad(floor, [(r, r) for r in radius], constant_values=-1e4)
    closed = ndimage.grey_closing(padded, footprint=disc)[radius[0] : -radius[0], radius[1] : -radius[1]]
    depth = np.where(columns, closed - floor, 0)
    return float(depth[depth > PIT_MM].sum()) * spacing[1] * spacing[2] / 1000
