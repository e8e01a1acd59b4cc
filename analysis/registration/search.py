"""Two images of one lung and a field so far -> a better one for large motion: a discrete, regularised search.

Every control node tries all displacements of a cube; a candidate costs the mean squared difference of the locally
standardised images around it (1 - LCC). The cost and the smoothness of the step are minimised in turn, coupled ever
tighter (coupled convex optimisation, Heinrich 2014, doi:10.1007/978-3-319-10404-1_3).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from ..volume import Float
from . import kernels
from .refine import NOISE_HU, LungImage

HALF = 2  # half width of the compared cube, voxels
REACH = 6  # largest displacement tried along each axis, voxels
UNLIKE = 2.0  # cost of a voxel that lies outside the lung in the other image: that of unrelated texture
COUPLING = (0.003, 0.01, 0.03, 0.1, 0.3)
BLOCK = 64  # nodes processed together: few enough that their costs stay in the processor's cache


@njit(cache=True, nogil=True)
def _costs(f, inside_f, m, inside_m, nodes, half, reach):  # type: ignore[no-untyped-def]
    """Mean cost (n, candidates) of the cube around each node against ``m`` displaced; every other voxel counts."""
    width = 2 * reach + 1
    out = np.empty((nodes.shape[0], width, width, width), np.float32)
    n0, n1, n2 = f.shape
    for n in range(nodes.shape[0]):
        k0, j0, i0 = nodes[n]
        for dk in range(width):
            for dj in range(width):
                total, count = out[n, dk, dj], np.float32(1e-6)
                total[:] = 0
                for k in range(max(k0 - half, 0), min(k0 + half + 1, n0), 2):
                    for j in range(max(j0 - half, 0), min(j0 + half + 1, n1), 2):
                        for i in range(max(i0 - half, 0), min(i0 + half + 1, n2), 2):
                            w, v = inside_f[k, j, i], f[k, j, i]
                            if w <= 0:
                                continue
                            count += w
                            b = inside_m[k + dk, j + dj, i : i + width]
                            r = m[k + dk, j + dj, i : i + width]
                            for di in range(width):
                                total[di] += w * (
                                    b[di] * (v - r[di]) * (v - r[di]) + (1 - b[di]) * np.float32(UNLIKE)
                                )
                for di in range(width):
                    total[di] /= count
    return out.reshape(nodes.shape[0], width * width * width)


def search(fixed: LungImage, moving: LungImage, offset: Float, nodes: Float, radius: int) -> Float:
    """Search once around a field.

    Parameters
    ----------
    fixed, moving : LungImage
        Same spacing and axes.
    offset : (3,) float32
        Moving index of fixed index 0 without displacement, voxels.
    nodes : (K, J, I, 3) float32
        Field so far at the control nodes, voxels.
    radius : int
        Half width of the standardising cube, voxels.

    Returns
    -------
    (K, J, I, 3) float32
        The field found, voxels.
    """
    shape = np.array(fixed.image.shape)
    u = np.pad(kernels.densify(nodes, shape), [(REACH, REACH)] * 3 + [(0, 0)], mode="edge")
    at = np.ascontiguousarray(offset - REACH, dtype=np.float32)
    inside = (kernels.warp(moving.inside, at, u) > 0.5).astype(np.float32)
    m = kernels.standardise(kernels.warp(moving.image, at, u), inside, radius, NOISE_HU**2)
    f = kernels.standardise(fixed.image, fixed.inside, radius, NOISE_HU**2)
    cells = np.argwhere(fixed.inside[:: kernels.STRIDE, :: kernels.STRIDE, :: kernels.STRIDE] > 0)
    x = cells * kernels.STRIDE
    d = _couple(_costs(f, fixed.inside, m, inside, x, HALF, REACH), cells)
    there = (x + d + REACH).astype(np.float32)
    step = d - u[tuple((x + REACH).T)]
    step += np.stack([kernels.sample(np.ascontiguousarray(u[..., c]), there) for c in range(3)], axis=-1)
    return nodes + _extend(step, cells, nodes.shape[:3])


def _couple(costs: Float, cells: NDArray[np.intp]) -> Float:
    """Return smooth displacements (n, 3), voxels, from the candidates' costs; ``cells`` (n, 3) are node indices."""
    steps = np.arange(-REACH, REACH + 1, dtype=np.float32)
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    norms = (candidates**2).sum(axis=1)
    smooth = _smooth(candidates[np.argmin(costs, axis=1)], cells)
    for theta in COUPLING:
        best = np.empty(len(costs), dtype=np.intp)
        for n in range(0, len(costs), BLOCK):
            block = slice(n, n + BLOCK)
            # |candidate - smooth|^2 without the term that is the same for all candidates
            far = norms - 2 * smooth[block] @ candidates.T
            best[block] = np.argmin(costs[block] + np.float32(theta) * far, axis=1)
        smooth = _smooth(candidates[best], cells)
    return smooth


def _smooth(d: Float, cells: NDArray[np.intp]) -> Float:
    """Return the Gaussian mean over neighbouring nodes, normalised by where there are nodes."""
    shape = tuple(int(n) for n in cells.max(axis=0) + 1)
    return _extend(d, cells, shape)[tuple(cells.T)]


def _extend(d: Float, cells: NDArray[np.intp], shape: tuple[int, ...]) -> Float:
    """Return the same mean at every node of a grid of ``shape``, (…, 3); 0 far from all given nodes."""
    index = tuple(cells.T)
    weight = np.zeros(shape, np.float32)
    weight[index] = 1
    weight = np.maximum(ndimage.gaussian_filter(weight, 1.0, mode="constant"), 1e-6)
    out = np.zeros((*shape, 3), np.float32)
    for c in range(3):
        out[(*index, c)] = d[:, c]
        out[..., c] = ndimage.gaussian_filter(out[..., c], 1.0, mode="constant") / weight
    return out
