"""Costs on a stack of heights over a plane -> the smooth surface of least cost."""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy import sparse
from scipy.sparse.linalg import spsolve

from ..volume import Float

#: The eight directions from which costs are summed.
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))


def least_cost(cost: Float, step: float) -> Float:
    """Return the height of least cost over every point of a plane, with neighbours at like heights.

    Costs are summed along paths from eight directions, on which each change of height by one costs ``step``
    (semi-global matching: Hirschmüller 2008, doi:10.1109/TPAMI.2007.1166).

    Parameters
    ----------
    cost : (v, u, w) float32
        Cost of height w at the point (v, u).
    step : float

    Returns
    -------
    (v, u) float32
        Heights, in steps of w.
    """
    total = np.zeros_like(cost)
    for dv, du in DIRECTIONS:
        _sweep(cost, total, dv, du, np.float32(step))
    return total.argmin(axis=2).astype(np.float32)


@njit(cache=True)
def _sweep(cost, total, dv, du, step):  # type: ignore[no-untyped-def]
    """Add to ``total`` the least cost of the paths that arrive along (dv, du)."""
    nv, nu, nw = cost.shape
    path = np.empty_like(cost)
    for a in range(nv):
        v = a if dv >= 0 else nv - 1 - a
        for b in range(nu):
            u = b if du >= 0 else nu - 1 - b
            pv, pu = v - dv, u - du
            path[v, u] = cost[v, u]
            if 0 <= pv < nv and 0 <= pu < nu:
                came = path[pv, pu].copy()
                for w in range(1, nw):
                    came[w] = min(came[w], came[w - 1] + step)
                for w in range(nw - 2, -1, -1):
                    came[w] = min(came[w], came[w + 1] + step)
                path[v, u] += came - came.min()
    total += path


def smoothed(heights: Float, weight: Float, stiffness: float) -> Float:
    """Return the thin plate that is nearest to heights where they have weight, and bridges where they have none.

    Parameters
    ----------
    heights, weight : (v, u) float32
        Weights 0…1.
    stiffness : float
        Weight of the plate's bending energy; the plate gives way over about ``stiffness ** 0.25`` points.

    Returns
    -------
    (v, u) float32
    """
    bend = [_second(n) for n in heights.shape]
    slope = [_first(n) for n in heights.shape]
    one = [sparse.eye(n) for n in heights.shape]
    energy = (
        sparse.kron(bend[0].T @ bend[0], one[1])
        + sparse.kron(one[0], bend[1].T @ bend[1])
        + 2 * sparse.kron(slope[0].T @ slope[0], slope[1].T @ slope[1])
    )
    held = weight.ravel().astype(np.float64) + 1e-5
    found = spsolve((sparse.diags(held) + stiffness * energy).tocsc(), held * heights.ravel())
    return found.reshape(heights.shape).astype(np.float32)


def _second(n: int) -> sparse.csr_matrix:
    return sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(n - 2, n)).tocsr()


def _first(n: int) -> sparse.csr_matrix:
    return sparse.diags([-1.0, 1.0], [0, 1], shape=(n - 1, n)).tocsr()
