"""A CT volume and its lungs -> the same with one fault of the scan: a breathing step, metal, an effusion, noise, a cut.

Every fault has a strength, so that a check can be asked from which strength on it finds it. Nothing is drawn from a
module's own random state: whoever calls brings the generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..volume import Float, Grid, Labels, Volume

SCANNER_HU = (-1024, 3071)
WATER_PER_MM = 0.02
STEEL_PER_MM = 0.5
SCATTER = 0.02  # share of what reaches the detector without the metal
PHOTONS = 5e5
AIRWAY_MM = 8.0
SIDE = 256  # pixels per side of the slice on which streaks are computed
ANGLES = 360


def breathing_step(volume: Volume, after: int, mm: float, rng: np.random.Generator) -> Volume:
    """Leave out a block of slices (mm > 0) or scan it twice (mm < 0), as a breath between two table positions does.

    Parameters
    ----------
    volume : Volume
    after : int
        The block begins at this slice.
    mm : float
        Its height; at least one slice.
    rng : numpy.random.Generator
        What is scanned twice has noise of its own, 10 HU.
    """
    count = max(1, round(abs(mm) / volume.grid.spacing[0]))
    if mm > 0:
        array = np.delete(_scanned(volume.array), slice(after, after + count), axis=0)
    else:
        array = _scanned(np.concatenate([volume.array[:after], volume.array[after - count :]]))
        again = array[after : after + count].astype(np.float32)
        array[after : after + count] = _scanned(again + 10 * rng.standard_normal(again.shape))
    return Volume(array, Grid((len(array), *volume.grid.shape[1:]), volume.grid.affine))


def lateral_step(volume: Volume, after: int, mm: float) -> Volume:
    """Move every slice from `after` on along the rows by `mm`, to the next whole pixel."""
    array = _scanned(volume.array)
    array[after:] = np.roll(array[after:], round(mm / volume.grid.spacing[2]), axis=2)
    return Volume(array, volume.grid)


def base_cut(volume: Volume, labels: Labels, mm: float) -> Volume:
    """Leave out what lies below a level `mm` above the lungs' lowest slice (the first one of the array)."""
    lowest = int(np.flatnonzero((labels > 0).any(axis=(1, 2)))[0])
    start = lowest + round(mm / volume.grid.spacing[0])
    shape = volume.grid.shape
    return volume.crop((slice(start, shape[0]), slice(0, shape[1]), slice(0, shape[2])))


def side_cut(volume: Volume, labels: Labels, mm: float) -> Volume:
    """Leave out the columns up to `mm` inside the lungs (the first ones of the array)."""
    outermost = int(np.flatnonzero((labels > 0).any(axis=(0, 1)))[0])
    k, j, i = volume.grid.shape
    return volume.crop((slice(0, k), slice(0, j), slice(outermost + round(mm / volume.grid.spacing[2]), i)))


def noise(volume: Volume, hu: float, rng: np.random.Generator, pixels: float = 0.8) -> Volume:
    """Add noise of a standard deviation of `hu`, correlated over `pixels` in the slice."""
    white = rng.standard_normal(volume.grid.shape, dtype=np.float32)
    grain = ndimage.gaussian_filter(white, (0.4, pixels, pixels))
    grain *= np.float32(hu / float(grain[::7].std()))
    return Volume(_scanned(volume.array + grain), volume.grid)


def effusion(volume: Volume, labels: Labels, ml: float, rng: np.random.Generator) -> Volume:
    """Fill the lungs of a patient on the back from behind with fluid of 12 HU up to a flat level.

    Parameters
    ----------
    volume : Volume
        Rows run to the patient's back.
    labels : (k, j, i) uint8
        Lungs on the volume's grid.
    ml : float
    """
    lung = labels > 0
    near = ndimage.binary_dilation(
        lung, np.ones((1, 3, 3), dtype=bool), iterations=round(AIRWAY_MM / volume.grid.spacing[1])
    )
    lung |= near & (volume.array < -300)  # the bronchi
    filled = np.cumsum(lung.sum(axis=(0, 2))[::-1]) * volume.grid.voxel_ml
    level = volume.grid.shape[1] - 1 - int(np.searchsorted(filled, ml))
    wet = lung.astype(np.float32)
    wet[:, :level] = 0
    wet = ndimage.gaussian_filter(wet, [0.7 / s for s in volume.grid.spacing])
    fluid = 12 + 15 * rng.standard_normal(volume.grid.shape, dtype=np.float32)
    return Volume(_scanned(volume.array * (1 - wet) + fluid * wet), volume.grid)


def metal(
    volume: Volume, slices: range, centres: list[tuple[float, float]], mm: float, rng: np.random.Generator
) -> Volume:
    """Put steel rods through some slices, with the streaks that filtered back-projection makes of them.

    Behind a rod the detector sees scatter instead of what the rod lets through, and few photons: both errors of the
    projections, back-projected, are added to the slice (de Man et al. 1999, doi:10.1109/23.775600).

    Parameters
    ----------
    volume : Volume
    slices : range
        Where the rods are.
    centres : list of (j, i)
        Their centres in the slice, pixels.
    mm : float
        Their diameter.
    """
    array = np.array(volume.array, dtype=np.float32)
    pixel, shape = volume.grid.spacing[1:], volume.grid.shape[1:]
    zoom = tuple(SIDE / n for n in shape)
    size = max(shape[0] * pixel[0], shape[1] * pixel[1]) / SIDE
    places = [((j - (shape[0] - 1) / 2) * pixel[0], (i - (shape[1] - 1) / 2) * pixel[1]) for j, i in centres]
    steel = _rods(places, mm, size)
    tissue = _projections(ndimage.zoom(array[slices[len(slices) // 2]], zoom, order=1), size)
    rows, columns = np.indices(shape)
    for k in slices:
        error = _projection_error(steel, tissue, rng)
        array[k] += ndimage.zoom(_back_projected(error, size), tuple(1 / z for z in zoom), order=1)
        for j, i in centres:
            near = ((rows - j) * pixel[0]) ** 2 + ((columns - i) * pixel[1]) ** 2 < (mm / 2) ** 2
            array[k][near] = SCANNER_HU[1]
    return Volume(_scanned(array), volume.grid)


def _scanned(hu: NDArray[Any]) -> NDArray[np.int16]:
    return np.clip(np.rint(hu), *SCANNER_HU).astype(np.int16)


def _rods(places: list[tuple[float, float]], mm: float, size: float) -> np.ndarray:
    """Return line integrals through the rods, (angle, bin): each bin the mean of five rays."""
    out = np.zeros((ANGLES, SIDE))
    angle = np.arange(ANGLES)[:, None] * np.pi / ANGLES
    bins = (np.arange(SIDE) - (SIDE - 1) / 2) * size
    for y, x in places:
        off = bins - (x * np.cos(angle) + y * np.sin(angle))
        for part in (np.arange(5) - 2) / 5 * size:
            out += 2 * np.sqrt(np.maximum((mm / 2) ** 2 - (off + part) ** 2, 0)) * STEEL_PER_MM / 5
    return out


def _projections(hu: Float, size: float) -> np.ndarray:
    """Return line integrals through the patient, (angle, bin), every eighth angle computed."""
    attenuation = np.maximum(hu + 1000, 0) / 1000 * WATER_PER_MM
    degrees = np.arange(0, ANGLES, 8) * 180 / ANGLES
    rows = [ndimage.rotate(attenuation, -d, reshape=False, order=1).sum(axis=0) * size for d in degrees]
    return np.repeat(np.array(rows), 8, axis=0)


def _projection_error(steel: np.ndarray, tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return measured less true line integrals behind the rods."""
    seen = -np.log((np.exp(-steel) + SCATTER) / (1 + SCATTER))
    counted = rng.standard_normal(steel.shape) * np.sqrt(np.exp(tissue + seen) / PHOTONS)
    return np.where(steel > 0, seen - steel + counted, 0)


def _back_projected(error: np.ndarray, size: float) -> np.ndarray:
    """Return the filtered back-projection (ramp under a Hann window), HU, (SIDE, SIDE)."""
    ramp = np.abs(np.fft.fftfreq(2 * SIDE, size))
    window = (0.5 * (1 + np.cos(1.6 * np.pi * np.fft.fftfreq(2 * SIDE)))).clip(0, 1)
    filtered = np.real(np.fft.ifft(np.fft.fft(error, 2 * SIDE, axis=1) * ramp * window, axis=1))[:, :SIDE]
    y, x = (np.indices((SIDE, SIDE)) - (SIDE - 1) / 2) * size
    bins = (np.arange(SIDE) - (SIDE - 1) / 2) * size
    out = np.zeros((SIDE, SIDE))
    for row, angle in zip(filtered, np.arange(ANGLES) * np.pi / ANGLES, strict=True):
        out += np.interp(x * np.cos(angle) + y * np.sin(angle), bins, row, 0, 0)
    return out * np.pi / ANGLES / WATER_PER_MM * 1000
