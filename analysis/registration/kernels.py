"""Compiled loops of the registration: sampling, windowed statistics, assembly of one step.

Each runs in one thread without the interpreter's lock: the callers run lungs and directions side by side, which
unlike threads inside every loop does not stall where another process wants a core.

Arrays are float32 (k, j, i); displacements (k, j, i, 3) are in voxels of the level's isotropic grid along
(k, j, i). Nodes of the control grid lie at every ``STRIDE``-th voxel; between nodes the field is trilinear.
"""

from __future__ import annotations

import numpy as np
from numba import njit

STRIDE = 2


@njit(cache=True, inline="always")
def _cell(x: float, n: int) -> tuple[int, float]:
    """Return lower index and fraction of a coordinate, clamped to the array (edge values extend outwards)."""
    if x <= 0:
        return 0, 0.0
    if x >= n - 1:
        return n - 2, 1.0
    i = int(x)
    return i, x - i


@njit(cache=True, inline="always")
def _trilinear(a, k, j, i):  # type: ignore[no-untyped-def]
    """Return the value of ``a`` (k, j, i) at fractional indices, edges extended."""
    k0, fk = _cell(k, a.shape[0])
    j0, fj = _cell(j, a.shape[1])
    i0, fi = _cell(i, a.shape[2])
    c00 = a[k0, j0, i0] * (1 - fi) + a[k0, j0, i0 + 1] * fi
    c01 = a[k0, j0 + 1, i0] * (1 - fi) + a[k0, j0 + 1, i0 + 1] * fi
    c10 = a[k0 + 1, j0, i0] * (1 - fi) + a[k0 + 1, j0, i0 + 1] * fi
    c11 = a[k0 + 1, j0 + 1, i0] * (1 - fi) + a[k0 + 1, j0 + 1, i0 + 1] * fi
    return (c00 * (1 - fj) + c01 * fj) * (1 - fk) + (c10 * (1 - fj) + c11 * fj) * fk


@njit(cache=True, inline="always")
def _vector(a, k, j, i):  # type: ignore[no-untyped-def]
    """Return the three values of ``a`` (k, j, i, 3) at fractional indices, edges extended."""
    k0, fk = _cell(k, a.shape[0])
    j0, fj = _cell(j, a.shape[1])
    i0, fi = _cell(i, a.shape[2])
    w00, w01 = (1 - fk) * (1 - fj), (1 - fk) * fj
    w10, w11 = fk * (1 - fj), fk * fj
    c00, c01, c10, c11 = a[k0, j0, i0], a[k0, j0 + 1, i0], a[k0 + 1, j0, i0], a[k0 + 1, j0 + 1, i0]
    d00, d01, d10, d11 = (
        a[k0, j0, i0 + 1],
        a[k0, j0 + 1, i0 + 1],
        a[k0 + 1, j0, i0 + 1],
        a[k0 + 1, j0 + 1, i0 + 1],
    )
    ga = 1 - fi
    return (
        ga * (w00 * c00[0] + w01 * c01[0] + w10 * c10[0] + w11 * c11[0])
        + fi * (w00 * d00[0] + w01 * d01[0] + w10 * d10[0] + w11 * d11[0]),
        ga * (w00 * c00[1] + w01 * c01[1] + w10 * c10[1] + w11 * c11[1])
        + fi * (w00 * d00[1] + w01 * d01[1] + w10 * d10[1] + w11 * d11[1]),
        ga * (w00 * c00[2] + w01 * c01[2] + w10 * c10[2] + w11 * c11[2])
        + fi * (w00 * d00[2] + w01 * d01[2] + w10 * d10[2] + w11 * d11[2]),
    )


@njit(cache=True, nogil=True)
def sample(image, points):  # type: ignore[no-untyped-def]
    """Return trilinear values (n,) of ``image`` (k, j, i) at ``points`` (n, 3) in its indices."""
    out = np.empty(points.shape[0], np.float32)
    for n in range(points.shape[0]):
        out[n] = _trilinear(image, points[n, 0], points[n, 1], points[n, 2])
    return out


@njit(cache=True, nogil=True)
def densify(nodes, shape):  # type: ignore[no-untyped-def]
    """Interpolate nodes (K, J, I, 3) to the displacement of every voxel (k, j, i, 3)."""
    out = np.empty((shape[0], shape[1], shape[2], 3), np.float32)
    half = np.float32(1 / STRIDE)
    for k in range(shape[0]):
        for j in range(shape[1]):
            for i in range(shape[2]):
                u = _vector(nodes, k * half, j * half, i * half)
                out[k, j, i, 0], out[k, j, i, 1], out[k, j, i, 2] = u[0], u[1], u[2]
    return out


@njit(cache=True, nogil=True)
def warp(image, offset, u):  # type: ignore[no-untyped-def]
    """Sample ``image`` at x + u(x) + offset, x on u's grid: (k, j, i)."""
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
def carry(a, b, c, where, offset, nodes):  # type: ignore[no-untyped-def]
    """Sample three images at x + u(x) + offset where ``where`` (k, j, i) is True, else 0; u from its ``nodes``."""
    out_a = np.zeros(where.shape, np.float32)
    out_b = np.zeros(where.shape, np.float32)
    out_c = np.zeros(where.shape, np.float32)
    half = np.float32(1 / STRIDE)
    for k in range(where.shape[0]):
        for j in range(where.shape[1]):
            for i in range(where.shape[2]):
                if where[k, j, i]:
                    u = _vector(nodes, k * half, j * half, i * half)
                    y0, y1, y2 = k + u[0] + offset[0], j + u[1] + offset[1], i + u[2] + offset[2]
                    out_a[k, j, i] = _trilinear(a, y0, y1, y2)
                    out_b[k, j, i] = _trilinear(b, y0, y1, y2)
                    out_c[k, j, i] = _trilinear(c, y0, y1, y2)
    return out_a, out_b, out_c


@njit(cache=True, nogil=True)
def mean_with_inverse(nodes, other, offset):  # type: ignore[no-untyped-def]
    """Return (u + v) / 2 with v(x) = -w(x + v(x)), by fixed-point iteration (Chen 2008, doi:10.1118/1.2816107).

    ``nodes`` and ``other`` are the nodes of u and w (K, J, I, 3), voxels; ``offset`` is where x = 0 lies in w's image.
    """
    out = np.empty_like(nodes)
    half = np.float32(1 / STRIDE)
    for k in range(nodes.shape[0]):
        for j in range(nodes.shape[1]):
            for i in range(nodes.shape[2]):
                x0, x1, x2 = STRIDE * k + offset[0], STRIDE * j + offset[1], STRIDE * i + offset[2]
                v0, v1, v2 = nodes[k, j, i, 0], nodes[k, j, i, 1], nodes[k, j, i, 2]
                for _ in range(6):
                    w = _vector(other, half * (x0 + v0), half * (x1 + v1), half * (x2 + v2))
                    v0, v1, v2 = -w[0], -w[1], -w[2]
                out[k, j, i, 0] = (nodes[k, j, i, 0] + v0) / 2
                out[k, j, i, 1] = (nodes[k, j, i, 1] + v1) / 2
                out[k, j, i, 2] = (nodes[k, j, i, 2] + v2) / 2
    return out


@njit(cache=True, nogil=True)
def _sum_row(image, weight, radius, row, out):  # type: ignore[no-untyped-def]
    """Sums of w, w f and w f^2 over 2 radius + 1 voxels of a row of f and w, zero outside, one behind the other."""
    n, total = image.size, np.float32(0)
    for i in range(n):
        total += weight[i]
    out[:] = 0
    if total <= 0:
        return
    for i in range(n):
        w, v = weight[i], image[i]
        row[0, radius + i], row[1, radius + i], row[2, radius + i] = w, w * v, w * v * v
    for q in range(3):
        for d in range(2 * radius + 1):
            for i in range(n):
                out[q * n + i] += row[q, i + d]


@njit(cache=True, nogil=True)
def _normalise_row(image, weight, sums, floor, out):  # type: ignore[no-untyped-def]
    n = image.size
    for i in range(n):
        if weight[i] > 0 and sums[i] > 1:
            mean = sums[n + i] / sums[i]
            variance = sums[2 * n + i] / sums[i] - mean * mean
            out[i] = (image[i] - mean) / np.sqrt(max(variance, 0) + floor)


@njit(cache=True, nogil=True)
def standardise(image, weight, radius, floor):  # type: ignore[no-untyped-def]
    """Standardise an image locally: (f - local mean) / local SD over the weighted cube, 0 where the weight is 0.

    The squared difference of two such images is 2 - 2 LCC (Cachier 2003; Lorenzi 2013,
    doi:10.1016/j.neuroimage.2013.04.114). One pass: a cube's sums run over planes, a plane's over rows.

    Parameters
    ----------
    image, weight : (k, j, i) float32
        HU relative to a constant near the mean, and 0…1.
    radius : int
        Half width of the cube, voxels.
    floor : float
        Variance (HU^2) that counts as noise.

    Returns
    -------
    (k, j, i) float32
    """
    n0, n1, n2 = image.shape
    width = 2 * radius + 1
    out = np.zeros_like(image)
    row = np.zeros((3, n2 + 2 * radius), np.float32)
    rows = np.zeros((width + n1 + radius, 3 * n2), np.float32)  # of one plane; row j is rows[width + j]
    planes = np.zeros((width, n1, 3 * n2), np.float32)  # those last added to `cube`
    square, cube = np.empty(3 * n2, np.float64), np.zeros((n1, 3 * n2), np.float64)
    for ahead in range(n0 + radius):
        for j in range(n1):
            if ahead < n0:
                _sum_row(image[ahead, j], weight[ahead, j], radius, row, rows[width + j])
            else:
                rows[width + j] = 0
        k, plane = ahead - radius, planes[ahead % width]
        square[:] = 0
        for j in range(-radius, n1):
            newest, oldest = rows[width + j + radius], rows[j + radius]
            for i in range(3 * n2):
                square[i] += newest[i]
                square[i] -= oldest[i]
            if j >= 0:
                for i in range(3 * n2):
                    value = np.float32(square[i])
                    cube[j, i] += np.float64(value) - plane[j, i]
                    plane[j, i] = value
                if k >= 0:
                    _normalise_row(image[k, j], weight[k, j], cube[j], floor, out[k, j])
    return out


@njit(cache=True, nogil=True)
def assemble(f, m, weight, border, border_m, border_weight, robust, border_scale):  # type: ignore[no-untyped-def]
    """Assemble lumped Gauss-Newton blocks of the control nodes (a voxel's tensor is shared by its eight nodes).

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
