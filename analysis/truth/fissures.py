"""A phantom with five lobes: fissures as thin sheets, as complete as one likes, and vessels that do not cross them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..volume import Float, Grid, Labels, Mask, Volume
from .phantom import BOTTOM_EXP, ThoraxShape, _axes, _body, _grid, _grow_vessels, _scan, _thin, lung_labels

BLUR_MM = 0.6
HILA = {1: (-24.0, 6.0, -86.0), 2: (26.0, 6.0, -90.0)}


@dataclass(frozen=True)
class FissureShape:
    """Hold what is chosen of the phantom.

    Parameters
    ----------
    complete : float
        Share of every fissure that is there, 0…1; it is missing from the hilum outwards.
    bend_mm : float
        How far fissures leave their planes.
    tilt, shift_mm : float
        Degrees and mm added to the tilt and the height of the oblique fissures.
    slice_mm : int
        Thickness of the slices.
    noise : float
        Standard deviation, HU.
    sheet_mm : float
        Thickness of the fissures, as soft tissue.
    """

    complete: float = 1.0
    bend_mm: float = 6.0
    tilt: float = 0.0
    shift_mm: float = 0.0
    slice_mm: int = 1
    noise: float = 25.0
    sheet_mm: float = 0.7


@dataclass(frozen=True, eq=False)
class FissureTruth:
    """Hold a CT and its lobes, all on one grid.

    Attributes
    ----------
    ct : Volume
    lungs : (k, j, i) uint8
        1 right, 2 left.
    lobes : (k, j, i) uint8
        1 + the place in `anatomy.regions.LOBES`.
    above : mapping of str to (k, j, i) float32
        Name of a fissure as in `lobes.FoundLobes` -> height above it, mm, measured across its plane.
    sheet : mapping of str to (k, j, i) bool
        Where along a fissure there is a sheet.
    """

    ct: Volume
    lungs: Labels
    lobes: Labels
    above: Mapping[str, Float]
    sheet: Mapping[str, Mask]


def fissure_phantom(shape: FissureShape | None = None, seed: int = 1) -> FissureTruth:
    """Make the thorax of `phantom.thorax_phantom`, on expiration, with five lobes.

    Parameters
    ----------
    shape : FissureShape
    seed : int
        Of vessels, texture and noise.
    """
    shape = shape or FissureShape()
    rng = np.random.default_rng(seed)
    thorax = ThoraxShape(slice_mm=shape.slice_mm)
    x, y, z = _axes(thorax, BOTTOM_EXP)
    lungs = lung_labels(x, y, z)
    above = _heights(shape, x, y, z)
    upper = np.where(above["right horizontal"] < 0, 2, 1)
    right = np.where(above["right oblique"] < 0, 3, upper)
    left = np.where(above["left oblique"] < 0, 5, 4)
    lobes = np.where(lungs == 1, right, np.where(lungs == 2, left, 0)).astype(np.uint8)
    sheet = _sheets(shape.complete, lungs, above, x, y, z)
    texture = ndimage.gaussian_filter(rng.standard_normal(lungs.shape, dtype=np.float32), 1.6)
    rho = 0.15 + 0.0004 * y + texture * np.float32(0.012 / texture.std())
    vessels = np.zeros(lungs.shape, np.float32)
    for lobe in range(1, 6):
        _grow_vessels(
            vessels, lobes == lobe, HILA[1 + (lobe > 3)], (x.ravel(), y.ravel(), z.ravel()), rng, 700
        )
    for name, height in above.items():
        share = shape.sheet_mm / (BLUR_MM * np.sqrt(2 * np.pi)) * np.exp(-0.5 * (height / BLUR_MM) ** 2)
        rho = np.where(sheet[name], np.maximum(rho, rho + (1 - rho) * np.minimum(share, 1)), rho)
    rho = np.where(lungs > 0, np.maximum(rho, 0.95 * vessels), _body(x, y, z)).astype(np.float32)
    n = shape.slice_mm
    grid = _grid(thorax, rho.shape, 1.0, BOTTOM_EXP)
    return FissureTruth(
        ct=Volume(_scan(_thin(rho, n), shape.noise, rng), grid),
        lungs=np.ascontiguousarray(lungs[n // 2 :: n]),
        lobes=np.ascontiguousarray(lobes[n // 2 :: n]),
        above={name: _thin(height.astype(np.float32), n) for name, height in above.items()},
        sheet={name: np.ascontiguousarray(there[n // 2 :: n]) for name, there in sheet.items()},
    )


def _heights(shape: FissureShape, x: Float, y: Float, z: Float) -> dict[str, Float]:
    """Return the height above every fissure, mm; planes that bend along x and along themselves."""
    bend = shape.bend_mm * (np.sin(x / 28) + np.cos((y - z) / 40))
    tilt = np.radians(50 + shape.tilt)

    def oblique(down: float) -> Float:
        return np.asarray(
            (z - down - shape.shift_mm) * np.cos(tilt) - y * np.sin(tilt) + bend, dtype=np.float32
        )

    return {
        "right oblique": oblique(-102.0),
        "right horizontal": np.asarray(z + 86 + 0.5 * bend + 0 * y, dtype=np.float32),
        "left oblique": oblique(-92.0),
    }


def _sheets(
    complete: float, lungs: Labels, above: Mapping[str, Float], x: Float, y: Float, z: Float
) -> dict[str, Mask]:
    """Return where every fissure's sheet is: beyond the distance from the hilum at which ``complete`` of it is left."""
    out = {}
    for name, height in above.items():
        lung = 1 if name.startswith("right") else 2
        where = lungs == lung
        if name == "right horizontal":
            where &= above["right oblique"] > 0
        a, b, c = HILA[lung]
        away = np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2)
        near = where & (np.abs(height) < 1)
        out[name] = where & (away > np.quantile(away[near], 1 - complete))
    return out


#: Name of a fissure -> the pairs of lobes, as labels, that meet at it.
MEET: Mapping[str, tuple[tuple[int, int], ...]] = {
    "right oblique": ((1, 3), (2, 3)),
    "right horizontal": ((1, 2),),
    "left oblique": ((4, 5),),
}


def on_grid(truth: FissureTruth, grid_mm: float) -> tuple[Volume, Labels, Grid]:
    """Return the CT, the lungs on a coarser grid that covers it, and that grid, as `lobes.find` takes them."""
    grid = truth.ct.coarsen(grid_mm).grid
    k, j, i = _factors(truth, grid)
    a, b, c = grid.shape
    ct = truth.ct.crop((slice(0, a * k), slice(0, b * j), slice(0, c * i)))
    return ct, _every(truth.lungs, truth, grid), grid


def distances(truth: FissureTruth, labels: Labels, grid: Grid) -> dict[str, tuple[float, float]]:
    """Return how far the boundaries between labels lie from the fissures, on average (mm).

    Parameters
    ----------
    truth : FissureTruth
    labels : (k, j, i) uint8
        On ``grid``.
    grid : Grid
        As `on_grid` returns it.

    Returns
    -------
    dict of str to (float, float)
        Of every fissure: where there is a sheet, and where there is none; NaN where there is no such place.
    """
    out = {}
    for name, pairs in MEET.items():
        above, sheet = _every(truth.above[name], truth, grid), _every(truth.sheet[name], truth, grid)
        apart, there = [], []
        for axis in range(3):
            one, two, low, high, on = (
                np.moveaxis(values, axis, 0)[part]
                for values, part in (
                    (labels, slice(-1)), (labels, slice(1, None)), (above, slice(-1)), (above, slice(1, None)),
                    (sheet, slice(-1)),
                )
            )  # fmt: skip
            border = np.any([((one == a) & (two == b)) | ((one == b) & (two == a)) for a, b in pairs], axis=0)
            apart.append(np.abs(low + high)[border] / 2)
            there.append(on[border])
        far, seen = np.concatenate(apart), np.concatenate(there)
        with_sheet, without = (float(far[s].mean()) if s.any() else float("nan") for s in (seen, ~seen))
        out[name] = (with_sheet, without)
    return out


def _factors(truth: FissureTruth, grid: Grid) -> tuple[int, int, int]:
    k, j, i = (round(a / b) for a, b in zip(grid.spacing, truth.ct.grid.spacing, strict=True))
    return k, j, i


def _every(values: np.ndarray, truth: FissureTruth, grid: Grid) -> np.ndarray:
    """Return the values in the middle of every voxel of a coarser grid."""
    k, j, i = _factors(truth, grid)
    a, b, c = grid.shape
    return np.ascontiguousarray(values[k // 2 :: k, j // 2 :: j, i // 2 :: i][:a, :b, :c])
