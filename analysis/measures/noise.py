"""A CT volume -> the standard deviation of its noise, from soft tissue."""

from __future__ import annotations

import numpy as np

from ..volume import Float, Volume
from .findings import Finding, verdict_of

BLOCK_MM = 5.0
SLICE_MM = 8.0  # distance between the slices that are measured
SOFT_HU = (-20.0, 120.0)
MIN_BLOCKS = 200
WARN_HU = 60.0


def noise(phase: str, hu: float) -> Finding:
    """Judge how noisy a phase is, from `noise_hu`; NaN where there is no soft tissue to measure."""
    name, limit = f"noise, {phase}", f"warn > {WARN_HU:g} HU"
    if not np.isfinite(hu):
        return Finding(
            name, "pass", None, "[hnsf'U]", limit, f"no soft tissue to measure noise in on {phase}"
        )
    words = f"noise in soft tissue measures {hu:.0f} HU on {phase}"
    if hu > WARN_HU:
        words += ": small regions of low V or Q may be noise"
    return Finding(name, verdict_of(False, hu > WARN_HU), hu, "[hnsf'U]", limit, words)


def noise_hu(volume: Volume) -> float:
    """Return the median SD in blocks of soft tissue of about 5 x 5 mm (HU); NaN where there are too few.

    Half of the blocks lie in muscle, liver and blood, which are even: their deviation is the noise, whatever its
    correlation between pixels. Texture of tissue counts as noise; it made 21 to 37 HU of eight real CTs.

    Parameters
    ----------
    volume : Volume
        The CT's own voxels: averaging takes noise away.
    """
    every = max(1, round(SLICE_MM / volume.grid.spacing[0]))
    n = [max(4, round(BLOCK_MM / s)) for s in volume.grid.spacing[1:]]
    mean, deviation = _blocks(np.asarray(volume.array[::every]), n[0], n[1])
    found = deviation[(mean > SOFT_HU[0]) & (mean < SOFT_HU[1])]
    return float(np.median(found)) if found.size >= MIN_BLOCKS else float("nan")


def _blocks(array: np.ndarray, rows: int, columns: int) -> tuple[Float, Float]:
    """Return mean and standard deviation of blocks in the slice."""
    k, j, i = len(array), array.shape[1] // rows, array.shape[2] // columns
    blocks = array[:, : j * rows, : i * columns].reshape(k, j, rows, i, columns).astype(np.float32)
    mean = blocks.mean(axis=(2, 4))
    square = np.einsum("kjris,kjris->kji", blocks, blocks) / (rows * columns)
    return mean, np.sqrt(np.maximum(square - mean**2, 0))
