"""One lung and a plane -> the fissure near it, as a smooth surface, and how much of it is seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..volume import Float, Mask
from .planes import Plane
from .surface import least_cost, smoothed
from .tissue import Tissue

POINT_MM = 2.5  # between the points of a surface
HEIGHT_MM = 1.0
BAND_MM = 26.0  # a fissure lies within this of its plane
FACING = (0.6, 0.9)  # cosine between a plate and the plane from which it counts, and counts in full
FAR_MM = 10.0  # from vessels; farther is no better
PLATE, VESSEL, AWAY, OFF = 1.5, 0.5, 0.3, 0.3  # weights of what makes a place dear or cheap
STEP = 0.25
STIFFNESS = 10.0
PIECE_MM = 4.0
SEEN = 0.15  # least mean strength of plates along a piece of a fissure that is seen
UNSEEN = 0.02  # weight of a place that only vessels tell of
ELSEWHERE_MM = (-14.0, -10.0, 10.0, 14.0)


@dataclass(frozen=True, eq=False)
class Fissure:
    """Hold one fissure.

    Attributes
    ----------
    plane : Plane
    corner : (2,) float64
        Where `heights` begin along the plane's first two axes, mm.
    heights : (v, u) float32
        Over the plane, mm, every `POINT_MM`.
    seen : float
        Share of the surface in the lung along which a fissure is seen, 0…1.
    chance : float
        The same of surfaces 10 and 14 mm above and below, where there is none.
    area : float
        Of the surface in the lung, mm².
    points : (n, 3) float64
        Points of the surface at which a fissure is seen, mm (z, y, x).
    """

    plane: Plane
    corner: NDArray[np.float64]
    heights: Float
    seen: float
    chance: float
    area: float
    points: NDArray[np.float64]

    @property
    def firm(self) -> float:
        """Return what is seen less twice what chance gives: the surface is the best of many, the others are not."""
        return self.seen - 2 * self.chance

    def above(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far points (n, 3), mm (z, y, x), lie above the surface, mm along the plane's normal."""
        local = (points - self.plane.origin) @ self.plane.axes.T
        where = ((local[:, :2] - self.corner) / POINT_MM).T
        return np.asarray(local[:, 2] - ndimage.map_coordinates(self.heights, where, order=1, mode="nearest"))


def fit(tissue: Tissue, part: Mask, plane: Plane) -> Fissure:
    """Fit the fissure near a plane.

    Over the plane stands a stack of heights. A height is cheap where a plate faces about along the plane's normal and
    far from vessels, dear in a vessel; the surface of least cost is found (`surface.least_cost`), and a thin plate is
    laid through the places where a fissure is seen, which bridges the others (`surface.smoothed`).

    Parameters
    ----------
    tissue : Tissue
    part : (z, y, x) bool
        What the fissure divides.
    plane : Plane

    Returns
    -------
    Fissure
    """
    corner, where = _stack(tissue, part, plane)
    inside = _sample(part, where) > 0.5
    plate = _sample(tissue.facing(plane.normal, *FACING), where)
    vessel = _sample(tissue.vessels, where)
    away = np.minimum(_sample(tissue.away, where), FAR_MM) / FAR_MM
    off = np.linspace(-1, 1, inside.shape[2], dtype=np.float32) ** 2
    cost = inside * (VESSEL * vessel - PLATE * plate - AWAY * away) + OFF * off
    heights = least_cost(cost, STEP)
    near = ndimage.maximum_filter1d(plate, 3, axis=2)
    here = _at(inside, heights)
    seen = here & (_local(_at(near, heights), here) > SEEN)
    weight = np.where(seen, np.maximum(_at(near, heights), 0.05), np.float32(UNSEEN) * here)
    surface = smoothed(heights, weight.astype(np.float32), STIFFNESS)
    here = _at(inside, surface)

    def visible(shift: float) -> Mask:
        return np.asarray(here & (_local(_at(near, surface + np.float32(shift / HEIGHT_MM)), here) > SEEN))

    count = max(int(here.sum()), 1)
    chance = float(np.mean([visible(mm).sum() / count for mm in ELSEWHERE_MM]))
    seen = visible(0.0)
    surface = surface * np.float32(HEIGHT_MM) - np.float32(BAND_MM)
    index = np.argwhere(seen)
    local = np.column_stack([index * POINT_MM + corner, surface[seen]])
    points = local @ plane.axes + plane.origin
    return Fissure(plane, corner, surface, float(seen.sum()) / count, chance, count * POINT_MM**2, points)


def _stack(tissue: Tissue, part: Mask, plane: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corner (v, u), mm, and the voxel coordinates (3, v, u, w) of a stack of heights over a plane."""
    spacing = np.array(tissue.spacing)
    flat = (np.argwhere(part)[::11] * spacing - plane.origin) @ plane.axes[:2].T
    corner = flat.min(axis=0) - 6
    vs, us = (
        np.arange(0, high - low + 6, POINT_MM) for low, high in zip(corner, flat.max(axis=0), strict=True)
    )
    ws = np.arange(-BAND_MM, BAND_MM + HEIGHT_MM / 2, HEIGHT_MM)
    grid = np.stack(np.meshgrid(vs + corner[0], us + corner[1], ws, indexing="ij"), axis=-1)
    return corner, np.moveaxis((grid @ plane.axes + plane.origin) / spacing, -1, 0)


def _sample(volume: np.ndarray, where: NDArray[np.float64]) -> Float:
    return np.asarray(ndimage.map_coordinates(volume.astype(np.float32), where, order=1, output=np.float32))


def _at(stack: np.ndarray, heights: Float) -> np.ndarray:
    """Return the values of a stack (v, u, w) at heights (v, u), in steps of w."""
    index = np.clip(np.rint(heights), 0, stack.shape[2] - 1).astype(np.intp)
    return np.asarray(np.take_along_axis(stack, index[..., None], axis=2)[..., 0])


def _local(value: Float, where: Mask) -> Float:
    """Return the mean of values in a piece of `PIECE_MM` around every point, over the points of ``where``."""
    sigma = PIECE_MM / POINT_MM
    share = ndimage.gaussian_filter(where.astype(np.float32), sigma) + np.float32(1e-3)
    return np.asarray(ndimage.gaussian_filter(value * where, sigma) / share)
