"""One CT volume -> Phase: its lungs on the working grid, its histograms, what the checks judge; ready to register."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..anatomy.lungs import segment
from ..anatomy.regions import zones
from ..measures import table as ms
from ..measures.scan import Scan
from ..parameters import Parameters
from ..volume import Grid, Labels, Mask, Volume
from .masks import with_own_lungs

MARGIN_MM = 20.0


@dataclass(frozen=True, eq=False)
class Phase:
    """Hold one phase, ready to be registered.

    Attributes
    ----------
    grid : Grid
        The CT's own grid.
    work : Volume
        Averaged to about ``grid_mm`` and cropped to the lungs with a margin.
    lungs : (k, j, i) uint8
        Lungs on ``work.grid``.
    box : (3,) slice
        Where `work` lies in the averaged volume.
    factors : (3,) int
        How many voxels of the CT one voxel of `work` averages, along k, j, i.
    densities : measures.Densities
        Histograms of the CT's own voxels by zone.
    scan : Scan
        What is judged of one phase.
    ct : Volume
        The CT's own voxels of `work`.
    """

    grid: Grid
    work: Volume
    lungs: Labels
    box: tuple[slice, slice, slice]
    factors: tuple[int, int, int]
    densities: ms.Densities
    scan: Scan
    ct: Volume

    @classmethod
    def of(cls, volume: Volume, parameters: Parameters, mask: Volume | None = None) -> Phase:
        """Find the lungs of a CT volume, or take those that a user drew.

        Parameters
        ----------
        volume : Volume
        parameters : Parameters
        mask : Volume, optional
            Of the lungs, see `masks.with_own_lungs`; without one the lungs are found.

        Raises
        ------
        Rejected
            Where the volume shows no lungs, or the mask holds none.
        """
        whole = volume.coarsen(parameters.grid_mm)
        found = with_own_lungs(whole, mask) if mask else segment(whole)
        margin = np.ceil(MARGIN_MM / np.array(whole.grid.spacing)).astype(int)
        box = _box(found.labels > 0, margin)
        k, j, i = (round(a / b) for a, b in zip(whole.grid.spacing, volume.grid.spacing, strict=True))
        work, lungs = whole.crop(box), found.labels[box]
        zone = zones(lungs, work.grid)
        fine_box = (
            slice(box[0].start * k, box[0].stop * k),
            slice(box[1].start * j, box[1].stop * j),
            slice(box[2].start * i, box[2].stop * i),
        )
        part = volume.crop(fine_box)
        ct = Volume(part.array.copy(), part.grid)  # not a view, which would keep the whole CT
        densities = ms.Densities.of(ct, _repeat(zone, (k, j, i)))
        scan = Scan.of(volume, whole, found, (k, j, i))
        work = Volume(np.ascontiguousarray(work.array, dtype=np.float32), work.grid)
        return cls(volume.grid, work, np.ascontiguousarray(lungs), box, (k, j, i), densities, scan, ct)

    @property
    def lung_ml(self) -> float:
        """Return the volume of the lungs, mL."""
        return float((self.lungs > 0).sum()) * self.work.grid.voxel_ml

    def lobe_densities(self, lobes: Labels) -> ms.Densities:
        """Return histograms of the CT's own voxels by lobe; ``lobes`` (k, j, i) on ``work.grid``."""
        return ms.Densities.of(self.ct, _repeat(lobes, self.factors))

    def fine(self, labels: Labels) -> Labels:
        """Carry labels on ``work.grid`` to every voxel of the CT, (k, j, i) uint8 on `grid`."""
        out = np.zeros(self.grid.shape, dtype=np.uint8)
        starts = [s.start * f for s, f in zip(self.box, self.factors, strict=True)]
        values = _repeat(labels, self.factors)
        out[tuple(slice(a, a + n) for a, n in zip(starts, values.shape, strict=True))] = values
        return out


def _box(mask: Mask, margin: np.ndarray) -> tuple[slice, slice, slice]:
    k, j, i = (
        slice(max(int(b[0]) - m, 0), min(int(b[-1]) + 1 + m, n))
        for b, m, n in zip(
            [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))],
            margin.tolist(),
            mask.shape,
            strict=True,
        )
    )
    return k, j, i


def _repeat(labels: Labels, factors: tuple[int, int, int]) -> Labels:
    for axis, factor in enumerate(factors):
        labels = np.repeat(labels, factor, axis=axis)
    return labels


def order_phases(a: Phase, b: Phase) -> tuple[Phase, Phase]:
    """Return (inspiration, expiration): the phase with the larger lungs is inspiration."""
    return (a, b) if a.lung_ml >= b.lung_ml else (b, a)
