"""A map known only by its means over subregions -> the smooth map that has these means, by least squares.

The subregions are cubes, one round every node of a lattice, each as small as its count of inspiratory voxels allows: a
count of H out of N has the relative error sqrt((1 - p) / H), p = H / N, of a hit-or-miss integral. The map is
trilinear between the nodes.

References
----------
Castillo E et al. Robust CT ventilation from the integral formulation of the Jacobian, Med Phys 2019,
doi:10.1002/mp.13453 (volume; patented, US 11,311,207); Castillo E et al. 2021, doi:10.1002/mp.14792 (mass).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg

from ..errors import Rejected
from ..volume import Float, Mask

Array = NDArray[np.float64]
#: Distance between nodes (mm), and the half widths that are tried.
NODES_MM = 8.0
HALF_MM = np.arange(3.0, 31.0)
#: Weight of the squared difference of neighbouring nodes beside that of a subregion's mean.
SMOOTHNESS = 0.2
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Fitted:
    """Hold a map fitted to the means of subregions.

    Attributes
    ----------
    values : (k, j, i) float32
        0 outside the mask.
    sigma_mm : float
        Standard deviation of the mean subregion along an axis: how much the map is averaged already.
    """

    values: Float
    sigma_mm: float


def fit(
    samples: Array,
    hits: Array,
    mask: Mask,
    spacing: tuple[float, float, float],
    tau: float,
    total: float | None = None,
) -> Fitted:
    """Fit the trilinear map whose means over the subregions are those of ``samples``.

    Parameters
    ----------
    samples : (k, j, i) float64
        What is averaged over each subregion.
    hits : (k, j, i) float64
        Inspiratory voxels that come from each voxel: what a subregion counts.
    mask : (k, j, i) bool
        Voxels that belong to a subregion.
    spacing : (3,) float
        mm along k, j, i.
    tau : float
        Relative counting error to which a subregion grows.
    total : float, optional
        Sum of the map over the mask, kept exactly.

    Raises
    ------
    Rejected
        Where there is too little lung for one subregion.
    """
    step = np.array([max(1, round(NODES_MM / s)) for s in spacing])
    lattice = np.array([-(-(n - 1) // s) + 1 for n, s in zip(mask.shape, step, strict=True)])
    centres, half = _grown(hits, mask, np.array(spacing), step, lattice, tau)
    if not len(centres):
        raise Rejected(f"the lungs are too small for subregions of tau = {tau:g}")
    rows, columns, weights, means = _means(samples, mask, centres, half, step, lattice)
    shape = (len(centres), int(np.prod(lattice)))
    matrix = sparse.csr_matrix((weights, (rows, columns)), shape=shape)
    basis = _basis(mask, step, lattice)
    used = np.flatnonzero(basis.sum(axis=0).A1 + matrix.sum(axis=0).A1)
    matrix, basis = matrix[:, used], basis[:, used]
    system = linalg.aslinearoperator(matrix.T @ matrix + SMOOTHNESS * _neighbours(lattice, used))
    nodes = _solve(system, matrix.T @ means)
    if total is not None:
        share = np.asarray(basis.sum(axis=0)).ravel()
        along = _solve(system, share)
        nodes = nodes + along * (total - share @ nodes) / (share @ along)
    values = np.zeros(mask.shape, dtype=np.float32)
    values[mask] = basis @ nodes
    return Fitted(values, float(((2 * half + 1) * np.array(spacing)).mean() / np.sqrt(12)))


def _grown(
    hits: Array, mask: Mask, spacing: Array, step: NDArray[np.intp], lattice: NDArray[np.intp], tau: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the voxel (n, 3) at the centre of each subregion, and its half width (n, 3) in voxels."""
    index = np.stack(np.meshgrid(*map(np.arange, lattice), indexing="ij"), axis=-1).reshape(-1, 3) * step
    index = np.minimum(index, np.array(mask.shape) - 1)
    index = index[mask[tuple(index.T)]]
    table, n = _summed(np.where(mask, hits, 0)), float(hits[mask].sum())
    half = np.zeros_like(index)
    waiting = np.ones(len(index), dtype=bool)
    for mm in HALF_MM:
        trial = np.maximum(np.rint(mm / spacing - 0.5), 0).astype(int)
        counted = np.maximum(_box_sum(table, index[waiting], trial), 1e-9)
        enough = np.sqrt(np.maximum(1 - counted / n, 0) / counted) <= tau
        half[np.flatnonzero(waiting)[enough]] = trial
        waiting[np.flatnonzero(waiting)[enough]] = False
    return index[~waiting], half[~waiting]


def _summed(values: Array) -> Array:
    """Return the summed-area table, one longer along each axis."""
    out = np.zeros(np.array(values.shape) + 1)
    out[1:, 1:, 1:] = values.cumsum(0).cumsum(1).cumsum(2)
    return out


def _box_sum(table: Array, centres: NDArray[np.intp], half: NDArray[np.intp]) -> Array:
    low = np.maximum(centres - half, 0)
    high = np.minimum(centres + half + 1, np.array(table.shape) - 1)
    out = np.zeros(len(centres))
    for corner in range(8):
        pick = [(corner >> a) & 1 for a in range(3)]
        at = tuple(np.where(pick[a], high[:, a], low[:, a]) for a in range(3))
        out += (-1) ** (3 - sum(pick)) * table[at]
    return out


@njit(cache=True)
def _means(samples, mask, centres, half, step, lattice):  # type: ignore[no-untyped-def]
    """Rows, columns and weights of the means of the trilinear basis over the subregions; the means of ``samples``."""
    span = np.ones(3, np.int64)
    for a in range(3):
        span[a] = 2 * half[:, a].max() // step[a] + 3
    local = np.zeros((span[0], span[1], span[2]))
    room = len(centres) * span[0] * span[1] * span[2]
    rows, columns = np.empty(room, np.int64), np.empty(room, np.int64)
    weights, means = np.empty(room), np.zeros(len(centres))
    filled = 0
    for n in range(len(centres)):
        low = np.maximum(centres[n] - half[n], 0)
        first = low // step
        local[:] = 0.0
        count, total = 0, 0.0
        for k in range(low[0], min(centres[n, 0] + half[n, 0] + 1, mask.shape[0])):
            for j in range(low[1], min(centres[n, 1] + half[n, 1] + 1, mask.shape[1])):
                for i in range(low[2], min(centres[n, 2] + half[n, 2] + 1, mask.shape[2])):
                    if not mask[k, j, i]:
                        continue
                    count += 1
                    total += samples[k, j, i]
                    a, b, c = k // step[0], j // step[1], i // step[2]
                    fa, fb, fc = k / step[0] - a, j / step[1] - b, i / step[2] - c
                    for corner in range(8):
                        x, y, z = corner >> 2, (corner >> 1) & 1, corner & 1
                        w = (fa if x else 1 - fa) * (fb if y else 1 - fb) * (fc if z else 1 - fc)
                        if w > 0:
                            local[a - first[0] + x, b - first[1] + y, c - first[2] + z] += w
        means[n] = total / count
        for x in range(span[0]):
            for y in range(span[1]):
                for z in range(span[2]):
                    if local[x, y, z] > 0:
                        rows[filled] = n
                        columns[filled] = (
                            ((first[0] + x) * lattice[1] + first[1] + y) * lattice[2] + first[2] + z
                        )
                        weights[filled] = local[x, y, z] / count
                        filled += 1
    return rows[:filled], columns[:filled], weights[:filled], means


def _basis(mask: Mask, step: NDArray[np.intp], lattice: NDArray[np.intp]) -> sparse.csr_matrix:
    """Return the trilinear weights of the nodes at every voxel of the mask."""
    index = np.argwhere(mask)
    cell = index // step
    fraction = index / step - cell
    rows, columns, weights = [], [], []
    for corner in range(8):
        pick = np.array([(corner >> a) & 1 for a in range(3)])
        w = np.prod(np.where(pick, fraction, 1 - fraction), axis=1)
        some = np.flatnonzero(w)
        node = cell[some] + pick
        rows.append(some)
        columns.append((node[:, 0] * lattice[1] + node[:, 1]) * lattice[2] + node[:, 2])
        weights.append(w[some])
    parts = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(parts, shape=(len(index), int(np.prod(lattice))))


def _neighbours(lattice: NDArray[np.intp], used: NDArray[np.intp]) -> sparse.csr_matrix:
    """D' D of the differences between neighbouring nodes that are used."""
    place = np.full(int(np.prod(lattice)), -1)
    place[used] = np.arange(len(used))
    place = place.reshape(lattice)
    pairs = []
    for axis in range(3):
        a, b = np.moveaxis(place, axis, 0)[:-1].ravel(), np.moveaxis(place, axis, 0)[1:].ravel()
        pairs.append(np.stack([a, b])[:, (a >= 0) & (b >= 0)])
    a, b = np.concatenate(pairs, axis=1)
    n = np.arange(len(a))
    ones = np.ones(len(a))
    difference = sparse.csr_matrix(
        (np.concatenate([ones, -ones]), (np.concatenate([n, n]), np.concatenate([a, b]))),
        shape=(len(a), len(used)),
    )
    return difference.T @ difference


def _solve(system: linalg.LinearOperator, right: Array) -> Array:
    solution, _ = linalg.cg(system, right, rtol=TOLERANCE, maxiter=2000)
    return np.asarray(solution, dtype=np.float64)
