"""Plates of one lung -> the planes near which a fissure may lie, likeliest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..volume import Float, Mask
from .tissue import Tissue

TILTS = np.arange(-36.0, 85.0, 6.0)  # degrees
TURNS = np.arange(-40.0, 41.0, 8.0)
BIN_MM = 2.0
BLUR_BINS = 1.5
FACING = 0.85  # least cosine between the normals of a plate and of the plane it votes for
ODD = 8.0  # planes that lie farther from what is expected are not looked at
FEW = 40  # points that make no plane
TILTED = 15.0  # degrees from which a plane's turn about z means something
WHOLE_MM2 = 2000.0  # planes through less of the lung need as many votes as one through this much
APART = (15.0, 12.0)  # degrees, mm: planes nearer than both to a likelier one are the same
EVERY = 37  # voxel of the lung is looked at for the areas of planes
LEAST, VOTERS = 0.3, 30_000


@dataclass(frozen=True)
class Expected:
    """Hold what is known of a fissure before it is looked for.

    Parameters
    ----------
    tilt, tilt_sd : float
        Angle (degrees) of its normal from the patient's z towards the front, and its spread.
    turn_sd : float
        Spread of the angle (degrees) of its normal from the sagittal plane.
    below, below_sd : float
        Share of the tissue it divides that lies on the feet's side of it, and its spread.
    """

    tilt: float
    tilt_sd: float
    turn_sd: float
    below: float
    below_sd: float

    def unlikely(self, below: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the square of the distance to the expected share, in spreads."""
        return np.asarray(((np.asarray(below) - self.below) / self.below_sd) ** 2)

    def odd(self, tilt: float, turn: float) -> float:
        """Return the square of the distance to the expected angles, in spreads."""
        across = turn * np.sin(np.radians(tilt))
        return float(((tilt - self.tilt) / self.tilt_sd) ** 2 + (across / self.turn_sd) ** 2)


#: Shares of the volume: Yamada 2020, doi:10.1159/000507265, supine; the spreads are wider, for disease moves fissures.
OBLIQUE = Expected(50.0, 14.0, 15.0, 0.50, 0.12)
HORIZONTAL = Expected(0.0, 14.0, 15.0, 0.34, 0.12)
HORIZONTAL_IN_LUNG = Expected(0.0, 14.0, 15.0, 0.60, 0.15)  # while the oblique one is not known yet


@dataclass(frozen=True, eq=False)
class Plane:
    """Hold a plane.

    Attributes
    ----------
    origin : (3,) float64
        A point of it, mm (z, y, x).
    axes : (3, 3) float64
        Unit vectors (z, y, x): two in the plane, and its normal, which points to the head.
    score : float
        Votes for it, weighted by how far it is where it is expected.
    """

    origin: NDArray[np.float64]
    axes: NDArray[np.float64]
    score: float

    @property
    def normal(self) -> NDArray[np.float64]:
        """Return the unit vector (z, y, x) across the plane."""
        return np.asarray(self.axes[2])

    def like(self, other: Plane) -> bool:
        """Return whether the planes are about the same."""
        angle = np.degrees(np.arccos(min(1.0, float(abs(self.normal @ other.normal)))))
        return bool(angle < APART[0] and abs((self.origin - other.origin) @ self.normal) < APART[1])


def planes(tissue: Tissue, part: Mask, expected: Expected, count: int) -> list[Plane]:
    """Return the planes near which the most plates lie that face their way: a Hough transform.

    Parameters
    ----------
    tissue : Tissue
    part : (z, y, x) bool
        What the fissure divides.
    expected : Expected
    count : int
        How many planes at most.

    Returns
    -------
    list of Plane
        Likeliest first; none where ``part`` is empty.
    """
    inside = np.argwhere(part)[::EVERY] * np.array(tissue.spacing)
    if len(inside) < 100:
        return []
    voters = _voters(tissue, part)
    found = [
        _best(voters, inside, tissue.voxel_mm3, _normal(tilt, turn), expected, expected.odd(tilt, turn))
        for tilt in TILTS
        for turn in TURNS
        if expected.odd(tilt, turn) < ODD
    ]
    return distinct(sorted(found, key=lambda p: -p.score))[:count]


def distinct(ordered: Iterable[Plane]) -> list[Plane]:
    """Return planes without those that are like an earlier one."""
    kept: list[Plane] = []
    for plane in ordered:
        if not any(plane.like(other) for other in kept):
            kept.append(plane)
    return kept


def _voters(tissue: Tissue, part: Mask) -> tuple[NDArray[np.float64], Float, Float]:
    """Return points (mm), normals and weights of the voxels that look like plates."""
    found = np.flatnonzero(part & (tissue.strength > LEAST))
    every = max(1, len(found) // VOTERS)
    index = np.unravel_index(found[::every], part.shape)
    points = np.stack(index, axis=1) * np.array(tissue.spacing)
    weights = np.asarray(tissue.strength[index] * np.float32(every), dtype=np.float32)
    return points, tissue.normal[index].astype(np.float32) / np.float32(127), weights


def _best(
    voters: tuple[NDArray[np.float64], Float, Float],
    inside: NDArray[np.float64],
    voxel_mm3: float,
    normal: NDArray[np.float64],
    expected: Expected,
    odd: float,
) -> Plane:
    """Return the plane of one direction that has the highest score."""
    points, facing, weight = voters
    along, depth = points @ normal, inside @ normal
    edges = np.arange(depth.min(), depth.max() + BIN_MM, BIN_MM)
    facing_it = np.abs(facing @ normal.astype(np.float32)) > FACING
    votes = np.histogram(along[facing_it], edges, weights=weight[facing_it])[0].astype(np.float64)
    votes = ndimage.gaussian_filter1d(votes, BLUR_BINS) * voxel_mm3
    area = np.histogram(depth, edges)[0] * EVERY * voxel_mm3 / BIN_MM
    below = np.cumsum(area) / area.sum()
    score = votes / (area + WHOLE_MM2) * np.exp(-(odd + expected.unlikely(below)) / 4)
    best = int(score.argmax())
    centre = inside.mean(axis=0)
    origin = centre + ((edges[best] + edges[best + 1]) / 2 - centre @ normal) * normal
    return Plane(origin, _axes(normal), float(score[best]))


def through(points: NDArray[np.float64], expected: Expected) -> Plane | None:
    """Return the plane nearest to points (n, 3), mm (z, y, x); None where it lies as no such fissure does."""
    if len(points) < FEW:
        return None
    centre = points.mean(axis=0)
    normal = np.linalg.svd(points - centre, full_matrices=False)[2][2]
    normal = normal if normal[0] > 0 else -normal
    tilt = np.degrees(np.arctan2(-normal[1], np.hypot(normal[0], normal[2])))
    turn = np.degrees(np.arctan2(normal[2], -normal[1])) if tilt > TILTED else 0.0
    return Plane(centre, _axes(normal), 0.0) if expected.odd(tilt, turn) < ODD else None


def _axes(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return two unit vectors across ``normal``, the second as near to x as can be, and it."""
    side = np.array([0.0, 0.0, 1.0]) - normal[2] * normal
    side /= np.linalg.norm(side)
    return np.array([np.cross(normal, side), side, normal])


def _normal(tilt: float, turn: float) -> NDArray[np.float64]:
    """Return the unit vector (z, y, x) tilted from z to the front, then turned about z to the left."""
    t, r = np.radians([tilt, turn])
    return np.array([np.cos(t), -np.sin(t) * np.cos(r), np.sin(t) * np.sin(r)])
