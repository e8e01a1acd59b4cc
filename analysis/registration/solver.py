"""One Gauss-Newton step on the control nodes near a lung: (A + R) du = b - R u, by conjugate gradients.

R penalises first and second differences between active nodes. There is no edge to an inactive node, so that the
border is free and the lung slides along the chest wall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..volume import Float, Mask


@dataclass(frozen=True, eq=False)
class Nodes:
    """Hold the active nodes of a control grid and the neighbours of each.

    Attributes
    ----------
    active : (K, J, I) bool
    neighbours : (n, 6) int32
        Numbers, among the active ones, of the nodes before and after along k, j and i; -1 where there is none.
    """

    active: Mask
    neighbours: NDArray[np.int32]

    @classmethod
    def of(cls, active: Mask) -> Nodes:
        """Number the nodes (K, J, I) that are True, and find their neighbours."""
        number = np.full([n + 2 for n in active.shape], -1, dtype=np.int32)
        number[1:-1, 1:-1, 1:-1][active] = np.arange(np.count_nonzero(active), dtype=np.int32)
        shifted = [np.roll(number, step, axis) for axis in range(3) for step in (1, -1)]
        return cls(active, np.stack([s[1:-1, 1:-1, 1:-1][active] for s in shifted], axis=-1))


@njit(cache=True, nogil=True)
def _bend(x, neighbours):  # type: ignore[no-untyped-def]
    """Second differences (n, 9) of ``x`` (n, 3) along k, j and i; 0 where one of the three nodes is missing."""
    out = np.zeros((x.shape[0], 9), np.float32)
    for n in range(x.shape[0]):
        for axis in range(3):
            a, b = neighbours[n, 2 * axis], neighbours[n, 2 * axis + 1]
            if a >= 0 and b >= 0:
                for c in range(3):
                    out[n, 3 * axis + c] = x[a, c] - 2 * x[n, c] + x[b, c]
    return out


@njit(cache=True, nogil=True)
def _regularised(x, bend, neighbours, stretch, bending):  # type: ignore[no-untyped-def]
    """R x (n, 3): stretch times the first differences' and bending times the second differences' normal matrix."""
    out = np.empty_like(x)
    for n in range(x.shape[0]):
        for c in range(3):
            out[n, c] = -2 * bending * (bend[n, c] + bend[n, 3 + c] + bend[n, 6 + c])
        for side in range(6):
            other = neighbours[n, side]
            if other >= 0:
                axis = 3 * (side // 2)
                for c in range(3):
                    out[n, c] += stretch * (x[n, c] - x[other, c]) + bending * bend[other, axis + c]
    return out


@njit(cache=True, nogil=True)
def _times(blocks, x):  # type: ignore[no-untyped-def]
    """A x (n, 3) with A's (n, 6) blocks: kk, kj, ki, jj, ji, ii."""
    out = np.empty_like(x)
    for n in range(x.shape[0]):
        a, x0, x1, x2 = blocks[n], x[n, 0], x[n, 1], x[n, 2]
        out[n, 0] = a[0] * x0 + a[1] * x1 + a[2] * x2
        out[n, 1] = a[1] * x0 + a[3] * x1 + a[4] * x2
        out[n, 2] = a[2] * x0 + a[4] * x1 + a[5] * x2
    return out


@njit(cache=True, nogil=True)
def _inverted(blocks, diagonal):  # type: ignore[no-untyped-def]
    """Blocks (n, 6) of (A + diagonal I)^-1."""
    out = np.empty_like(blocks)
    for n in range(blocks.shape[0]):
        a = blocks[n]
        a00, a11, a22 = a[0] + diagonal, a[3] + diagonal, a[5] + diagonal
        a01, a02, a12 = a[1], a[2], a[4]
        c00, c01, c02 = a11 * a22 - a12 * a12, a02 * a12 - a01 * a22, a01 * a12 - a02 * a11
        c11, c12, c22 = a00 * a22 - a02 * a02, a01 * a02 - a00 * a12, a00 * a11 - a01 * a01
        det = a00 * c00 + a01 * c01 + a02 * c02
        out[n, 0], out[n, 1], out[n, 2] = c00 / det, c01 / det, c02 / det
        out[n, 3], out[n, 4], out[n, 5] = c11 / det, c12 / det, c22 / det
    return out


def solve(system: Float, u: Float, nodes: Nodes, stretch: float, bending: float, iterations: int) -> Float:
    """Solve for the step du.

    Parameters
    ----------
    system : (K, J, I, 9) float32
        From `kernels.assemble`.
    u : (K, J, I, 3) float32
        The field relative to the affine start, voxels.
    nodes : Nodes
    stretch, bending : float
        Weights of the first and the second differences.
    iterations : int

    Returns
    -------
    (K, J, I, 3) float32
        Voxels; 0 at nodes that are not active.
    """
    there = nodes.neighbours
    weights = np.float32(stretch), np.float32(bending)
    own = system[nodes.active]
    blocks = np.ascontiguousarray(own[:, :6])
    inverse = _inverted(blocks, np.float32(6 * stretch + 18 * bending + 1e-6))
    now = u[nodes.active]
    r = own[:, 6:] - _regularised(now, _bend(now, there), there, *weights)
    x, z = np.zeros_like(r), _times(inverse, r)
    p, rho = z, _dot(r, z)
    for _ in range(iterations):
        if rho <= 0:
            break
        q = _regularised(p, _bend(p, there), there, *weights) + _times(blocks, p)
        step = np.float32(rho / _dot(p, q))
        x += step * p
        r -= step * q
        z = _times(inverse, r)
        rho, previous = _dot(r, z), rho
        p = z + np.float32(rho / previous) * p
    out = np.zeros_like(u)
    out[nodes.active] = x
    return out


def _dot(a: Float, b: Float) -> float:
    return float(np.vdot(a.ravel(), b.ravel()))
