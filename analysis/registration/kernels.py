"""Compiled loops of the registration: sampling, windowed statistics, assembly and solution of one step.

Each runs in one thread without the interpreter's lock: the callers run lungs and directions side by side, which
unlike threads inside every loop does not stall where another process wants a core.

Arrays are float32 (k, j, i); displacements (k, j, i, 3) are in voxels of the level's isotropic grid along
(k, j, i). Nodes of the control grid lie at every ``STRIDE``-th voxel; between nodes the field is trilinear.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..volume import Float, Mask

STRIDE = 2


@njit(cache=True, inline="always")
def _cell(x: float, n: int) -> tuple[int, float]:
    """Lower index and fraction of a coordinate, clamped to the array (edge values extend outwards)."""
    if x <= 0:
        return 0, 0.0
    if x >= n - 1:
        return n - 2, 1.0
    i = int(x)
    return i, x - i


@njit(cache=True, inline="always")
def _trilinear(a, k, j, i):  # type: ignore[no-untyped-def]
    """Value of ``a`` (k, j, i) at fractional indices, edges extended."""
    k0, fk = _cell(k, a.shape[0])
    j0, fj = _cell(j, a.shape[1])
    i0, fi = _cell(i, a.shape[2])
    c00 = a[k0, j0, i0] * (1 - fi) + a[k0, j0, i0 + 1] * fi
    c01 = a[k0, j0 + 1, i0] * (1 - fi) + a[k0, j0 + 1, i0 + 1] * fi
    c10 = a[k0 + 1, j0, i0] * (1 - fi) + a[k0 + 1, j0, i0 + 1] * fi
    c11 = a[k0 + 1, j0 + 1, i0] * (1 - fi) + a[k0 + 1, j0 + 1, i0 + 1] * fi
    return (c00 * (1 - fj) + c01 * fj) * (1 - fk) + (c10 * (1 - fj) + c11 * fj) * fk


@njit(cache=True, nogil=True)
def sample(image, points):  # type: ignore[no-untyped-def]
    """Trilinear values (n,) of ``image`` (k, j, i) at ``points`` (n, 3) in its indices."""
    out = np.empty(points.shape[0], np.float32)
    for n in range(points.shape[0]):
        out[n] = _trilinear(image, points[n, 0], points[n, 1], points[n, 2])
    return out


@njit(cache=True, nogil=True)
def densify(nodes, shape):  # type: ignore[no-untyped-def]
    """Nodes (K, J, I, 3) -> displacement of every voxel (k, j, i, 3)."""
    out = np.empty((shape[0], shape[1], shape[2], 3), np.float32)
    for k in range(shape[0]):
        k0, fk = _cell(k / STRIDE, nodes.shape[0])
        for j in range(shape[1]):
            j0, fj = _cell(j / STRIDE, nodes.shape[1])
            for i in range(shape[2]):
                i0, fi = _cell(i / STRIDE, nodes.shape[2])
                for c in range(3):
                    a = nodes[k0, j0, i0, c] * (1 - fi) + nodes[k0, j0, i0 + 1, c] * fi
                    b = nodes[k0, j0 + 1, i0, c] * (1 - fi) + nodes[k0, j0 + 1, i0 + 1, c] * fi
                    d = nodes[k0 + 1, j0, i0, c] * (1 - fi) + nodes[k0 + 1, j0, i0 + 1, c] * fi
                    e = nodes[k0 + 1, j0 + 1, i0, c] * (1 - fi) + nodes[k0 + 1, j0 + 1, i0 + 1, c] * fi
                    out[k, j, i, c] = (a * (1 - fj) + b * fj) * (1 - fk) + (d * (1 - fj) + e * fj) * fk
    return out


@njit(cache=True, nogil=True)
def warp(image, offset, u):  # type: ignore[no-untyped-def]
    """``image`` at x + u(x) + offset, x on u's grid: (k, j, i)."""
    out = np.empty(u.shape[:3], np.float32)
    for k in range(u.shape[0]):
        for j in range(u.shape[1]):
            for i in range(u.shape[2]):
                out[k, j, i] = _trilinear(
                    image,
                    k + u[k, j, i, 0] + offset[0],
                    j + u[k, j, i, 1] + offset[1],
                    i + u[k, j, i, 2] + offset[2],
                )
    return out


@njit(cache=True, nogil=True)
def _box_last(a, r):  # type: ignore[no-untyped-def]
    """Sums over 2 r + 1 voxels along the last axis, zero outside."""
    out = np.empty_like(a)
    n = a.shape[2]
    for k in range(a.shape[0]):
        for j in range(a.shape[1]):
            s = np.float64(0)
            for i in range(min(r, n)):
                s += a[k, j, i]
            for i in range(n):
                if i + r < n:
                    s += a[k, j, i + r]
                if i - r - 1 >= 0:
                    s -= a[k, j, i - r - 1]
                out[k, j, i] = s
    return out


@njit(cache=True, nogil=True)
def _box_middle(a, r):  # type: ignore[no-untyped-def]
    """Sums over 2 r + 1 voxels along the middle axis, zero outside."""
    out = np.empty_like(a)
    n = a.shape[1]
    for k in range(a.shape[0]):
        s = np.zeros(a.shape[2], np.float64)
        for j in range(min(r, n)):
            s += a[k, j]
        for j in range(n):
            if j + r < n:
                s += a[k, j + r]
            if j - r - 1 >= 0:
                s -= a[k, j - r - 1]
            out[k, j] = s
    return out


@njit(cache=True, nogil=True)
def _box_first(a, r):  # type: ignore[no-untyped-def]
    """Sums over 2 r + 1 voxels along the first axis, zero outside."""
    out = np.empty_like(a)
    n = a.shape[0]
    for j in range(a.shape[1]):
        s = np.zeros(a.shape[2], np.float64)
        for k in range(min(r, n)):
            s += a[k, j]
        for k in range(n):
            if k + r < n:
                s += a[k + r, j]
            if k - r - 1 >= 0:
                s -= a[k - r - 1, j]
            out[k, j] = s
    return out


def box_sum(a: Float, r: int) -> Float:
    """Sum over the cube of 2 r + 1 voxels around every voxel, zero outside the array."""
    return _box_first(_box_middle(_box_last(a, r), r), r)


@njit(cache=True, nogil=True)
def _standardise(image, weight, w, s, ss, floor):  # type: ignore[no-untyped-def]
    out = np.zeros_like(image)
    for k in range(image.shape[0]):
        for j in range(image.shape[1]):
            for i in range(image.shape[2]):
                if weight[k, j, i] > 0 and w[k, j, i] > 1:
                    mean = s[k, j, i] / w[k, j, i]
                    variance = ss[k, j, i] / w[k, j, i] - mean * mean
                    out[k, j, i] = (image[k, j, i] - mean) / np.sqrt(max(variance, 0) + floor)
    return out


def standardise(image: Float, weight: Float, radius: int, floor: float) -> Float:
    """Locally standardised image: (f - local mean) / local SD over the weighted cube, 0 where the weight is 0.

    The squared difference of two such images is 2 - 2 LCC (Cachier 2003; Lorenzi 2013,
    doi:10.1016/j.neuroimage.2013.04.114).

    Parameters
    ----------
    image, weight : (k, j, i) float32
        HU relative to a constant near the mean, and 0…1.
    radius : int
        Half width of the cube, voxels.
    floor : float
        Variance (HU^2) that counts as noise.
    """
    weighted = image * weight
    return _standardise(
        image,
        weight,
        box_sum(weight, radius),
        box_sum(weighted, radius),
        box_sum(weighted * image, radius),
        floor,
    )


@njit(cache=True, nogil=True)
def assemble(f, m, weight, border, border_m, border_weight, robust, border_scale):  # type: ignore[no-untyped-def]
    """Gauss-Newton blocks of the control nodes, lumped (each voxel's tensor is shared by its eight nodes).

    Two residuals: f - m, locally standardised intensities, weighted by ``weight``; and border - border_m, clipped
    signed distances to the lung's surface in voxels, weighted by ``border_weight * border_scale``.

    Returns
    -------
    (K, J, I, 9) float32
        Upper triangle of A (kk, kj, ki, jj, ji, ii), then b (k, j, i).
    """
    n0, n1, n2 = f.shape
    K, J, I = (
        (n0 + STRIDE - 1) // STRIDE + 1,
        (n1 + STRIDE - 1) // STRIDE + 1,
        (n2 + STRIDE - 1) // STRIDE + 1,
    )
    out = np.zeros((K, J, I, 9), np.float32)
    for node_k in range(K):
        t = np.empty(9, np.float32)
        for k in range(max(1, STRIDE * (node_k - 1) + 1), min(n0 - 1, STRIDE * (node_k + 1))):
            wk = 1 - abs(k / STRIDE - node_k)
            for j in range(1, n1 - 1):
                for i in range(1, n2 - 1):
                    w = weight[k, j, i]
                    wb = border_weight[k, j, i]
                    if w <= 0 and wb <= 0:
                        continue
                    t[:] = 0
                    if w > 0:
                        gk = 0.25 * (f[k + 1, j, i] - f[k - 1, j, i] + m[k + 1, j, i] - m[k - 1, j, i])
                        gj = 0.25 * (f[k, j + 1, i] - f[k, j - 1, i] + m[k, j + 1, i] - m[k, j - 1, i])
                        gi = 0.25 * (f[k, j, i + 1] - f[k, j, i - 1] + m[k, j, i + 1] - m[k, j, i - 1])
                        r = f[k, j, i] - m[k, j, i]
                        _add(t, gk, gj, gi, r, w / np.sqrt(1 + (r / robust) ** 2))
                    if wb > 0:
                        gk = 0.5 * (border[k + 1, j, i] - border[k - 1, j, i])
                        gj = 0.5 * (border[k, j + 1, i] - border[k, j - 1, i])
                        gi = 0.5 * (border[k, j, i + 1] - border[k, j, i - 1])
                        r = border[k, j, i] - border_m[k, j, i]
                        _add(t, gk, gj, gi, r, border_scale * wb / np.sqrt(1 + r * r))
                    j0, fj = j // STRIDE, (j % STRIDE) / STRIDE
                    i0, fi = i // STRIDE, (i % STRIDE) / STRIDE
                    for c in range(9):
                        v = wk * t[c]
                        out[node_k, j0, i0, c] += v * (1 - fj) * (1 - fi)
                        out[node_k, j0, i0 + 1, c] += v * (1 - fj) * fi
                        out[node_k, j0 + 1, i0, c] += v * fj * (1 - fi)
                        out[node_k, j0 + 1, i0 + 1, c] += v * fj * fi
    return out


@njit(cache=True, inline="always")
def _add(t, gk, gj, gi, r, w):  # type: ignore[no-untyped-def]
    t[0] += w * gk * gk
    t[1] += w * gk * gj
    t[2] += w * gk * gi
    t[3] += w * gj * gj
    t[4] += w * gj * gi
    t[5] += w * gi * gi
    t[6] += w * gk * r
    t[7] += w * gj * r
    t[8] += w * gi * r


@njit(cache=True, nogil=True)
def _bend(x, active):  # type: ignore[no-untyped-def]
    """Second differences of ``x`` along k, j and i, 0 where a node of the three is not active."""
    K, J, I, _ = x.shape
    out = np.zeros((K, J, I, 9), np.float32)
    for k in range(K):
        for j in range(J):
            for i in range(I):
                if not active[k, j, i]:
                    continue
                if 0 < k < K - 1 and active[k - 1, j, i] and active[k + 1, j, i]:
                    for c in range(3):
                        out[k, j, i, c] = x[k - 1, j, i, c] - 2 * x[k, j, i, c] + x[k + 1, j, i, c]
                if 0 < j < J - 1 and active[k, j - 1, i] and active[k, j + 1, i]:
                    for c in range(3):
                        out[k, j, i, 3 + c] = x[k, j - 1, i, c] - 2 * x[k, j, i, c] + x[k, j + 1, i, c]
                if 0 < i < I - 1 and active[k, j, i - 1] and active[k, j, i + 1]:
                    for c in range(3):
                        out[k, j, i, 6 + c] = x[k, j, i - 1, c] - 2 * x[k, j, i, c] + x[k, j, i + 1, c]
    return out


@njit(cache=True, nogil=True)
def _apply(x, bend, system, active, stretch, bending):  # type: ignore[no-untyped-def]
    """(A + stretch L + bending B) x; without ``system``'s A where it is empty."""
    K, J, I, _ = x.shape
    out = np.zeros_like(x)
    for k in range(K):
        for j in range(J):
            for i in range(I):
                if not active[k, j, i]:
                    continue
                for n in range(6):
                    kk = k + (n == 0) - (n == 1)
                    jj = j + (n == 2) - (n == 3)
                    ii = i + (n == 4) - (n == 5)
                    if kk < 0 or jj < 0 or ii < 0 or kk >= K or jj >= J or ii >= I or not active[kk, jj, ii]:
                        continue
                    axis = 3 * (n // 2)
                    for c in range(3):
                        out[k, j, i, c] += stretch * (x[k, j, i, c] - x[kk, jj, ii, c])
                        out[k, j, i, c] += bending * bend[kk, jj, ii, axis + c]
                for c in range(3):
                    out[k, j, i, c] -= (
                        2 * bending * (bend[k, j, i, c] + bend[k, j, i, 3 + c] + bend[k, j, i, 6 + c])
                    )
                if system.shape[0] > 0:
                    a = system[k, j, i]
                    x0, x1, x2 = x[k, j, i, 0], x[k, j, i, 1], x[k, j, i, 2]
                    out[k, j, i, 0] += a[0] * x0 + a[1] * x1 + a[2] * x2
                    out[k, j, i, 1] += a[1] * x0 + a[3] * x1 + a[4] * x2
                    out[k, j, i, 2] += a[2] * x0 + a[4] * x1 + a[5] * x2
    return out


@njit(cache=True, nogil=True)
def _precondition(r, system, active, diagonal):  # type: ignore[no-untyped-def]
    """Every node's 3 x 3 block (A + diagonal I) solved for ``r``."""
    K, J, I, _ = r.shape
    out = np.zeros_like(r)
    for k in range(K):
        for j in range(J):
            for i in range(I):
                if not active[k, j, i]:
                    continue
                a = system[k, j, i]
                a00, a11, a22 = a[0] + diagonal, a[3] + diagonal, a[5] + diagonal
                a01, a02, a12 = a[1], a[2], a[4]
                b0, b1, b2 = r[k, j, i, 0], r[k, j, i, 1], r[k, j, i, 2]
                c00, c01, c02 = a11 * a22 - a12 * a12, a02 * a12 - a01 * a22, a01 * a12 - a02 * a11
                c11, c12, c22 = a00 * a22 - a02 * a02, a01 * a02 - a00 * a12, a00 * a11 - a01 * a01
                det = a00 * c00 + a01 * c01 + a02 * c02
                out[k, j, i, 0] = (c00 * b0 + c01 * b1 + c02 * b2) / det
                out[k, j, i, 1] = (c01 * b0 + c11 * b1 + c12 * b2) / det
                out[k, j, i, 2] = (c02 * b0 + c12 * b1 + c22 * b2) / det
    return out


def solve(system: Float, u: Float, active: Mask, stretch: float, bending: float, iterations: int) -> Float:
    """The Gauss-Newton step: preconditioned conjugate gradients on (A + R) du = b - R u, R = stretch L + bending B.

    L penalises first differences and B second differences between active nodes; there is no edge to an inactive
    node, so that the border is free and the lung slides along the chest wall.

    Parameters
    ----------
    system : (K, J, I, 9) float32
        From `assemble`.
    u : (K, J, I, 3) float32
        The field relative to the affine start, voxels.
    active : (K, J, I) bool
    stretch, bending : float
        Weights of the regulariser.
    iterations : int

    Returns
    -------
    (K, J, I, 3) float32
        du, voxels.
    """
    none = np.zeros((0, 0, 0, 9), np.float32)
    weights = np.float32(stretch), np.float32(bending)
    diagonal = np.float32(6 * stretch + 18 * bending + 1e-6)
    r = system[..., 6:] * active[..., None] - _apply(u, _bend(u, active), none, active, *weights)
    x = np.zeros_like(u)
    z = _precondition(r, system, active, diagonal)
    p, rho = z, _dot(r, z)
    for _ in range(iterations):
        if rho <= 0:
            break
        q = _apply(p, _bend(p, active), system, active, *weights)
        step = np.float32(rho / _dot(p, q))
        x += step * p
        r -= step * q
        z = _precondition(r, system, active, diagonal)
        rho, previous = _dot(r, z), rho
        p = z + np.float32(rho / previous) * p
    return x


def _dot(a: Float, b: Float) -> float:
    return float(np.vdot(a.ravel(), b.ravel()))
