"""The lungs of one phase and how they breathe -> the truth at any point of expiration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..volume import Float, Grid, Labels, Mask
from .defects import Defect, health
from .fields import Field, Points, grid_points, sample
from .phantom import true_classes

Array = NDArray[np.float64]
PhaseName = Literal["inspiration", "expiration"]

SLAB = 8
WHOLE = 1000
SIDE = {1: 1, 2: -1}


@dataclass(frozen=True, eq=False)
class Truth:
    """Hold what is true at the voxels of a grid in expiration; all 0 outside the lungs.

    Attributes
    ----------
    displacement : (k, j, i, 3) float32
        mm, LPS (x, y, z), from expiration to inspiration.
    jacobian, mass_change : (k, j, i) float32
        J (1) and m (g per mL of expiratory lung).
    lungs : (k, j, i) uint8
        1 right, 2 left.
    classes : (k, j, i) uint8
        `VQClass`: V = J - 1 and Q = m below 0.60 of their means, unsmoothed.
    """

    displacement: Float
    jacobian: Float
    mass_change: Float
    lungs: Labels
    classes: Labels


@dataclass(frozen=True, eq=False)
class Breathing:
    """Hold the anatomy of one patient and how it moves.

    Attributes
    ----------
    shares, grid : (k, j, i) int16, Grid
        Share of lung in the real phase, smoothed: 0…1000 right, 0…-1000 left.
    phase : {"inspiration", "expiration"}
        Which phase is real.
    fields : Field by lung
        From expiration to inspiration.
    defects : tuple of Defect
    blood : float
        Mean m of healthy lung, g/mL.
    """

    shares: NDArray[np.int16]
    grid: Grid
    phase: PhaseName
    fields: Mapping[int, Field]
    defects: tuple[Defect, ...]
    blood: float

    @cached_property
    def boxes(self) -> Mapping[int, tuple[Array, Array]]:
        """Return the lowest and highest corner of each expiratory lung, with a margin, LPS mm."""
        out = {}
        for lung in self.fields:
            nodes = self.lung_nodes(lung)
            margin = 1.5 * self.fields[lung].step
            out[lung] = nodes.min(axis=0) - margin, nodes.max(axis=0) + margin
        return out

    def lung_nodes(self, lung: int) -> Array:
        """Return the nodes of a lung's field that lie in the lung: (n, 3), LPS mm."""
        nodes = self.fields[lung].nodes().reshape(-1, 3)
        return nodes[self.inside(lung, nodes)]

    def inside(self, lung: int, points: Points) -> Mask:
        """Return which LPS points (n, 3) of expiration lie in a lung."""
        moved = points if self.phase == "expiration" else points + self.fields[lung].displacement(points)
        return sample(self.shares, self.grid, moved) * SIDE[lung] > 0.5 * WHOLE

    def lung_at(self, points: Points) -> Labels:
        """Return the lung that LPS points (n, 3) of expiration lie in; the right one where both contain a point."""
        out = np.zeros(len(points), dtype=np.uint8)
        for lung, (low, high) in self.boxes.items():
            near = np.flatnonzero(((points > low) & (points < high)).all(axis=1) & (out == 0))
            if near.size:
                out[near[self.inside(lung, points[near])]] = lung
        return out

    def mass_change(self, points: Points, lung: int) -> Float:
        """Return m (n,) g/mL at points of one lung on expiration; it falls with perfusion and to the front (supine)."""
        y = np.asarray(points)[:, 1]
        middle = self.grid.points(np.array([[n / 2 for n in self.grid.shape]]))[0, 1]
        height = np.clip((y - middle) / 100, -1, 1)
        m = self.blood * (1 + 0.15 * height) * health(self.defects, lung, "Q", points)
        return m.astype(np.float32)

    def truth(self, grid: Grid) -> Truth:
        """Return the truth on a grid of expiration."""
        lungs = self.lungs_on(grid)
        u = np.zeros((*grid.shape, 3), dtype=np.float32)
        jac, m = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
        for lung, field in self.fields.items():
            flat = np.flatnonzero(lungs == lung)
            points = grid_points(grid, flat)
            u.reshape(-1, 3)[flat] = field.displacement(points)
            jac.ravel()[flat] = field.jacobian(points)
            m.ravel()[flat] = self.mass_change(points, lung)
        return Truth(u, jac, m, lungs, true_classes(jac, m, lungs))

    def lungs_on(self, grid: Grid) -> Labels:
        """Return the lungs of expiration at the voxels of a grid, (k, j, i) uint8."""
        out = np.zeros(grid.shape, dtype=np.uint8)
        for slab, points in slabs(grid):
            out.reshape(-1)[slab] = self.lung_at(points)
        return out


def shares_of(labels: Labels, grid: Grid) -> NDArray[np.int16]:
    """Smooth the labels' borders by 0.7 mm or half a voxel, so that they can be drawn at any resolution."""
    signed = np.zeros(labels.shape, dtype=np.float32)
    for lung, side in SIDE.items():
        signed[labels == lung] = side * WHOLE
    return ndimage.gaussian_filter(signed, [max(0.7 / s, 0.5) for s in grid.spacing], truncate=2.0).astype(
        np.int16
    )


def slabs(grid: Grid) -> Iterator[tuple[slice, Float]]:
    """Yield the voxels of a grid, a few slices at a time: flat indices and LPS mm (n, 3) float32."""
    size = grid.shape[1] * grid.shape[2]
    for k in range(0, grid.shape[0], SLAB):
        part = slice(k * size, min(k + SLAB, grid.shape[0]) * size)
        yield part, grid_points(grid, np.arange(part.start, part.stop))
