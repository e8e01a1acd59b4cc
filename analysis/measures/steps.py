"""A CT volume -> the largest jump of the anatomy between neighbouring slices, and slices that were scanned twice.

A breath or a movement between two positions of the table leaves a block out, scans it twice or moves it sideways.
Neighbouring slices then differ by as much as slices do that lie far apart. How much that is at every distance is
taken from the slices around, so that a jump comes in mm, whatever the patient, the kernel and the noise. The median
over tiles of 48 mm that show the body is taken: heart, ribs and diaphragm have to jump together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..volume import Float, Grid, Volume
from .findings import Finding, verdict_of

PIXEL_MM = 4.0
SLICE_MM = 2.0  # of thinner slices every n-th is taken
COARSE_MM = 2.5  # the limits hold to here and grow with the distance of slices further apart
TILE = 12  # pixels
MIN_TILES = 8
REACH_MM = 15.0  # largest distance between slices that are compared
AROUND_MM = 24.0  # how far around a gap the usual differences are learnt
BY_CHANCE = (
    3.5 * 1.25 / (2**0.5 * TILE)
)  # of a ratio, over the root of the tiles: 3.5 SD of a median of noise
MIN_PAIRS = 4  # slices on one side of a gap say what is usual there from so many pairs on
WINDOW_HU = (-1000.0, 200.0)
BODY_HU = -850.0
ALIKE = (
    0.35,
    0.6,
)  # of the difference of neighbours: less is the same anatomy again; neighbours, and further apart
WARN_MM = 1.5  # real CTs without a step reach 1.2
FAIL_MM = 3.0
FAIL_SIDEWAYS_MM = 8.0


@dataclass(frozen=True)
class Step:
    """Hold the largest step of one scan.

    Parameters
    ----------
    jump_mm : float
        Distance (mm) over which slices usually differ as much as the two neighbours do, less their own distance.
    along_mm : float
        The same after the slices are moved onto each other sideways.
    sideways_mm : float
        How far they were moved for that (mm).
    repeat_mm : float
        Height of the block that was scanned twice; 0 for none.
    slices : (int, int)
        The neighbours, from 0: of the jump, or of the repeat where there is one.
    place : str
        Where they lie, e.g. ``"z = -112.5 mm"``.
    count : int
        Slices of the scan.
    distance_mm : float
        Between the slices that were compared.
    """

    jump_mm: float = 0.0
    along_mm: float = 0.0
    sideways_mm: float = 0.0
    repeat_mm: float = 0.0
    slices: tuple[int, int] = (0, 0)
    place: str = ""
    count: int = 0
    distance_mm: float = 0.0


def step(phase: str, found: Step) -> Finding:
    """Judge whether the patient breathed or moved while a phase was scanned, from `largest_step`."""
    name = f"breathing step, {phase}"
    wider = max(found.distance_mm / COARSE_MM, 1.0)
    warn_mm, fail_mm = WARN_MM * wider, FAIL_MM * wider
    limit = (
        f"warn > {warn_mm:g} mm, fail > {fail_mm:g} mm along the slices or {FAIL_SIDEWAYS_MM:g} mm sideways"
    )
    along = max(found.along_mm, found.repeat_mm)
    fail = along > fail_mm or found.sideways_mm > FAIL_SIDEWAYS_MM
    verdict = verdict_of(fail, max(found.jump_mm, found.sideways_mm, found.repeat_mm) > warn_mm)
    if verdict == "pass":
        return Finding(name, verdict, found.jump_mm, "mm", limit, f"no step between slices on {phase}")
    if found.repeat_mm > warn_mm:
        size, words = found.repeat_mm, "a block of {:.0f} mm was scanned twice"
    elif found.sideways_mm > max(warn_mm, found.along_mm):
        size, words = found.sideways_mm, "the body jumps sideways by {:.0f} mm"
    else:
        size, words = found.jump_mm, "the anatomy jumps by as much as {:.0f} mm make elsewhere"
    first, second = (k + 1 for k in found.slices)
    where = f"between slices {first} and {second} of {found.count} ({found.place}) on {phase}"
    sentence = f"{words.format(size)} {where}: the patient breathed or moved, V and Q near it are not valid"
    return Finding(name, verdict, size, "mm", limit, sentence)


def largest_step(volume: Volume) -> Step:
    """Find the largest jump between neighbouring slices of a scan; all 0 where the scan is too small to judge.

    Parameters
    ----------
    volume : Volume
        Slices along k, each acquired at an instant or in a short time.
    """
    every = max(1, int(SLICE_MM / volume.grid.spacing[0]))
    distance = every * volume.grid.spacing[0]
    images = _small(volume, every)
    lags = int(np.ceil(REACH_MM / distance))
    if len(images) < 3 * lags or min(images.shape[1:]) < 2 * TILE:
        return Step()
    differences = [_tiles((images[n:] - images[:-n]) ** 2) for n in range(1, lags + 1)]
    body = _tiles(images)[:-1] > BODY_HU
    chance = BY_CHANCE / np.sqrt(np.maximum(body.sum(axis=1), 1))
    usual = _usual(differences, distance)
    curves = [np.maximum.accumulate([_middle(u / side[0], body) for u in side], axis=0) for side in usual]
    jumps = np.min(
        [
            [
                _as_mm(r, c, distance)
                for r, c in zip(_middle(differences[0] / side[0], body) - chance, curve.T, strict=True)
            ]
            for side, curve in zip(usual, curves, strict=True)
        ],
        axis=0,
    )
    k = int(np.argmax(jumps))
    again, height = _repeat(differences, body)
    at = again if height else k
    shift, aligned = _sideways(images[k], images[k + 1])
    still, here = _tiles(aligned[None] ** 2), body[k : k + 1]
    rest = [_middle(still / side[0][k : k + 1], here)[0] - chance[k] for side in usual]
    along = min(_as_mm(r, curve[:, k], distance) for r, curve in zip(rest, curves, strict=True))
    return Step(
        float(jumps[k]),
        float(min(along, jumps[k])),
        float(np.linalg.norm(shift * _averaged(volume.grid) * volume.grid.spacing[1:])),
        height * distance,
        (at * every, (at + 1) * every),
        place_of(volume.grid, (at + 0.5) * every),
        volume.grid.shape[0],
        distance,
    )


def _small(volume: Volume, every: int) -> Float:
    """Return every n-th slice in pixels of 4 mm, clipped to the HU of lung and soft tissue."""
    array = volume.array[::every]
    j, i = _averaged(volume.grid)
    n = array.shape[0], array.shape[1] // j, array.shape[2] // i
    blocks = array[:, : n[1] * j, : n[2] * i].reshape(n[0], n[1], j, n[2], i)
    return np.clip(blocks.mean(axis=(2, 4), dtype=np.float32), *WINDOW_HU)


def _averaged(grid: Grid) -> tuple[int, int]:
    """Return how many rows and columns make a pixel of about 4 mm."""
    j, i = (max(1, round(PIXEL_MM / s)) for s in grid.spacing[1:])
    return j, i


def _tiles(images: Float) -> Float:
    """Return the mean over tiles, (k, tile)."""
    j, i = (n // TILE for n in images.shape[1:])
    blocks = images[:, : j * TILE, : i * TILE].reshape(len(images), j, TILE, i, TILE)
    return np.asarray(blocks.mean(axis=(2, 4)).reshape(len(images), -1) + np.float32(1e-3))


def _usual(differences: list[Float], distance: float) -> tuple[list[Float], list[Float]]:
    """Return the mean squared difference at every lag below and above every gap, a (gap, tile) a lag.

    Where the lungs end, slices differ much on one side and little on the other: what is usual on one is no jump.
    """
    lags = len(differences)
    width = max(lags + 2, round(AROUND_MM / distance))
    pairs = [_on_sides(d, n, width) for n, d in enumerate(differences, 1)]
    return [below for below, _ in pairs], [above for _, above in pairs]


def _on_sides(difference: Float, lag: int, width: int) -> tuple[Float, Float]:
    """Return the mean squared difference at a lag below and above every gap; of both where pairs are few."""
    gaps = len(difference) + lag - 1
    total = np.concatenate(
        [np.zeros((1, difference.shape[1])), np.cumsum(difference, axis=0, dtype=np.float64)]
    )
    k = np.arange(gaps)
    start, end = np.maximum(k - width, 0), np.maximum(k - lag + 1, 0)
    below = np.minimum(start, end), end
    start, end = np.minimum(k + 1, len(difference)), np.clip(k + 2 + width - lag, k + 1, len(difference))
    above = start, np.maximum(end, start)
    counts = [(side[1] - side[0])[:, None] for side in (below, above)]
    sums = [total[side[1]] - total[side[0]] for side in (below, above)]
    both = (sums[0] + sums[1]) / np.maximum(counts[0] + counts[1], 1)
    one, other = (
        np.where(n >= MIN_PAIRS, s / np.maximum(n, 1), both).astype(np.float32)
        for n, s in zip(counts, sums, strict=True)
    )
    return one, other


def _middle(square: Float, body: np.ndarray) -> Float:
    """Return the root of the median over the tiles of the body; 0 where they are too few."""
    some = body.sum(axis=1) >= MIN_TILES
    out = np.zeros(len(square), dtype=np.float32)
    masked = np.where(body[some], square[some], np.nan)
    out[some] = np.sqrt(np.nanmedian(masked, axis=1))
    return out


def _as_mm(ratio: float, curve: Float, distance: float) -> float:
    """Return the distance at which slices differ by ``ratio``, less that of neighbours (mm)."""
    return float(np.interp(ratio, curve, distance * np.arange(1, len(curve) + 1))) - distance


def _repeat(differences: list[Float], body: np.ndarray) -> tuple[int, int]:
    """Return first gap and height, in slices, of a block that repeats at once; (0, 0) for none.

    Every slice of the block must repeat, so that two slices alike by chance do not count.
    """
    usual = ndimage.median_filter(differences[0], (2 * len(differences) + 1, 1), mode="nearest")
    for lag, difference in enumerate(differences, 1):
        alike = _middle(difference / usual[: len(difference)], body[: len(difference)])
        same = (alike > 0) & (alike < ALIKE[lag > 1])
        runs, count = ndimage.label(same)
        for n in range(1, count + 1):
            run = np.flatnonzero(runs == n)
            if len(run) >= lag:
                return int(run[0]) + lag - 1, lag
    return 0, 0


def _sideways(here: Float, there: Float) -> tuple[np.ndarray, Float]:
    """Return the shift (j, i) in pixels of a slice onto its neighbour, by Gauss-Newton, and what still differs."""
    shift = np.zeros(2)
    moved = there
    for _ in range(8):
        gradient = np.stack([g.ravel() for g in np.gradient(0.5 * (moved + here))], axis=1)
        change, *_ = np.linalg.lstsq(gradient, (moved - here).ravel(), rcond=None)
        shift += change
        moved = ndimage.shift(there, shift, order=1, mode="nearest")
    still = moved - here
    if (still**2).sum() > ((there - here) ** 2).sum():
        return np.zeros(2), there - here
    return shift, still


def place_of(grid: Grid, k: float) -> str:
    """Return where slice k lies on the patient's axis that the slices follow, e.g. ``"z = -112.5 mm"``."""
    axis = int(np.argmax(np.abs(grid.affine[:3, 0])))
    point = grid.points(np.array([[k, (grid.shape[1] - 1) / 2, (grid.shape[2] - 1) / 2]]))[0]
    return f"{'xyz'[axis]} = {point[axis]:.1f} mm"
