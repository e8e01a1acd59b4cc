"""Smooth noise on a small grid, for maps of a lung that fills all of it."""

import numpy as np
from scipy import ndimage

from analysis.volume import Float, Grid

SHAPE = (28, 28, 28)
GRID = Grid.axial(SHAPE, (4.0, 4.0, 4.0))
ALL = np.ones(SHAPE, bool)


def noise(seed: int, sigma: float = 2.0) -> Float:
    """White noise under a Gaussian of `sigma` voxels, with a standard deviation of one."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), sigma)
    out: Float = (values / values.std()).astype(np.float32)
    return out
