"""Smooth displacement fields as cubic B-splines: values, exact gradients and Jacobians, inverses, fits.

A field u(p) = sum over lattice nodes of c_n B((p - p_n) / h) has continuous second derivatives, so that its Jacobian
is known exactly at any point and not only by differences between voxels.

Reference: Unser 1999, doi:10.1109/79.799930.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy import ndimage, sparse

from ..volume import Float, Grid

Points = NDArray[np.float64] | Float


@dataclass(frozen=True, eq=False)
class Field:
    """Hold a displacement in a box of space; beyond the box it equals the value at the nearest face.

    Parameters
    ----------
    coefficients : (K, J, I, 3) float32
        Of the cubic B-spline at the nodes (z, y, x), mm, LPS (x, y, z).
    origin : (3,) float
        LPS mm (x, y, z) of node (0, 0, 0).
    step : float
        mm between nodes.
    """

    coefficients: Float
    origin: tuple[float, float, float]
    step: float

    @classmethod
    def through(cls, values: Float, origin: tuple[float, float, float], step: float) -> Field:
        """Return the field that takes ``values`` (K, J, I, 3), mm, at its nodes."""
        out = np.empty(values.shape, dtype=np.float32)
        for c in range(3):
            out[..., c] = ndimage.spline_filter(values[..., c], order=3, mode="mirror")
        return cls(out, origin, step)

    def nodes(self) -> NDArray[np.float64]:
        """Return LPS mm (x, y, z) of all nodes, (K, J, I, 3)."""
        return lattice(self.coefficients.shape[:3], self.origin, self.step)

    def displacement(self, points: Points) -> Float:
        """Return u (n, 3) in mm at LPS points (n, 3) in mm."""
        return self._evaluate(points, 0)[0]

    def jacobian(self, points: Points) -> Float:
        """det(d phi / dp), phi(p) = p + u(p), (n,) at LPS points (n, 3) in mm."""
        return self._evaluate(points, 1)[1]

    def gradient(self, points: Points) -> Float:
        """Return du_a / dp_b (n, 3, 3) at LPS points (n, 3) in mm."""
        return self._evaluate(points, 2)[2]

    def _evaluate(self, points: Points, mode: int) -> tuple[Float, Float, Float]:
        p = np.ascontiguousarray(points, dtype=np.float32)
        origin = np.array(self.origin, dtype=np.float32)
        u, jac, grad = _evaluate(self.coefficients, origin, np.float32(self.step), p, mode)
        return u, jac, grad

    def inverse(self, points: Points) -> tuple[Float, Float]:
        """Return p (n, 3) with p + u(p) = points, by Newton's method, and the residual (n,), mm.

        Neighbouring points should follow each other: each starts from the solution before it.
        """
        y = np.ascontiguousarray(points, dtype=np.float32)
        origin = np.array(self.origin, dtype=np.float32)
        x, left = _invert(self.coefficients, origin, np.float32(self.step), y)
        return x, left

    def after(self, first: Field) -> Field:
        """Return the field of p -> self(first(p)), on the nodes of ``first``."""
        nodes = first.nodes().reshape(-1, 3)
        u = first.displacement(nodes)
        both = u + self.displacement(nodes + u)
        return Field.through(both.reshape(first.coefficients.shape), first.origin, first.step)


def lattice(shape: tuple[int, ...], origin: tuple[float, float, float], step: float) -> NDArray[np.float64]:
    """LPS mm (x, y, z) of the nodes (z, y, x) of a lattice, (K, J, I, 3)."""
    z, y, x = (o + step * np.arange(n) for n, o in zip(shape, origin[::-1], strict=True))
    zz, yy, xx = np.meshgrid(z, y, x, indexing="ij")
    return np.stack([xx, yy, zz], axis=-1)


def grid_points(grid: Grid, flat: NDArray[np.int64]) -> Float:
    """LPS mm (n, 3) float32 of the voxels with the given flat indices."""
    affine = grid.affine.astype(np.float32)
    out = np.empty((len(flat), 3), dtype=np.float32)
    out[:] = affine[:3, 3]
    for axis, index in enumerate(np.unravel_index(flat, grid.shape)):
        steps = index.astype(np.float32)
        for c in np.flatnonzero(affine[:3, axis]):
            out[:, c] += steps * affine[c, axis]
    return out


def basis(
    points: Points, shape: tuple[int, ...], origin: tuple[float, float, float], step: float
) -> sparse.csr_matrix:
    """Return the sparse weights (n, K J I) of the nodes' coefficients in the value at each point (n, 3)."""
    t = (np.asarray(points, dtype=np.float64)[:, ::-1] - np.array(origin)[::-1]) / step
    limit = np.array(shape) - 2 - 1e-4
    t = np.clip(t, 1.0, limit)
    base = np.floor(t).astype(int)
    w = _weights(t - base)
    columns = np.zeros((len(t), 1, 1, 1), dtype=np.int64)
    values = np.ones((len(t), 1, 1, 1))
    for axis, n in enumerate(shape):
        view = [len(t), 1, 1, 1]
        view[axis + 1] = 4
        columns = columns * n + (base[:, axis, None] + np.arange(-1, 3)).reshape(view)
        values = values * w[:, axis].reshape(view)
    rows = np.repeat(np.arange(len(t)), 64)
    return sparse.csr_matrix((values.ravel(), (rows, columns.ravel())), shape=(len(t), int(np.prod(shape))))


def _weights(f: NDArray[np.float64]) -> NDArray[np.float64]:
    g = 1 - f
    w = [g**3, 3 * f**3 - 6 * f**2 + 4, 3 * g**3 - 6 * g**2 + 4, f**3]
    return np.stack(w, axis=-1) / 6


def sample(array: NDArray[np.int16] | Float, grid: Grid, points: Points) -> Float:
    """HU (n,) at LPS points (n, 3) by cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711); clamped."""
    inverse = np.linalg.inv(grid.affine[:3, :3]).astype(np.float32)
    p = np.ascontiguousarray(points, dtype=np.float32)
    out: Float = _sample(np.ascontiguousarray(array), inverse, grid.affine[:3, 3].astype(np.float32), p)
    return out


@njit(cache=True, inline="always")
def _bspline(f, w, d):  # type: ignore[no-untyped-def]
    g = np.float32(1) - f
    sixth, half = np.float32(1 / 6), np.float32(0.5)
    w[0], w[3] = g * g * g * sixth, f * f * f * sixth
    w[1] = half * f * f * f - f * f + np.float32(2 / 3)
    w[2] = np.float32(1) - w[0] - w[1] - w[3]
    d[0], d[3] = -half * g * g, half * f * f
    d[1] = np.float32(1.5) * f * f - np.float32(2) * f
    d[2] = -(d[0] + d[1] + d[3])


@njit(cache=True)
def _at(c, origin, h, x, y, z, u, g, w, d, want):  # type: ignore[no-untyped-def]
    """u (3,) and, where wanted, its gradient g (3, 3) [component, axis x y z] at one point; w, d (3, 4) are scratch."""
    base = np.empty(3, np.int64)
    p = (z, y, x)
    for a in range(3):
        t = (p[a] - origin[2 - a]) / h
        t = min(max(t, np.float32(1)), np.float32(c.shape[a] - 2) - np.float32(1e-3))
        base[a] = int(t)
        _bspline(t - np.float32(base[a]), w[a], d[a])
    u[:] = 0
    g[:, :] = 0
    for k in range(4):
        for j in range(4):
            wkj, dk, dj = w[0, k] * w[1, j], d[0, k] * w[1, j], w[0, k] * d[1, j]
            for i in range(4):
                v = c[base[0] + k - 1, base[1] + j - 1, base[2] + i - 1]
                wi, di = w[2, i], d[2, i]
                for a in range(3):
                    u[a] += wkj * wi * v[a]
                    if want:
                        g[a, 0] += wkj * di * v[a]
                        g[a, 1] += dj * wi * v[a]
                        g[a, 2] += dk * wi * v[a]
    if want:
        g /= h


@njit(cache=True)
def _det(g):  # type: ignore[no-untyped-def]
    a, e, i = 1 + g[0, 0], 1 + g[1, 1], 1 + g[2, 2]
    return (
        a * (e * i - g[1, 2] * g[2, 1])
        - g[0, 1] * (g[1, 0] * i - g[1, 2] * g[2, 0])
        + g[0, 2] * (g[1, 0] * g[2, 1] - e * g[2, 0])
    )


@njit(cache=True, parallel=True)
def _evaluate(c, origin, h, points, mode):  # type: ignore[no-untyped-def]
    n = points.shape[0]
    out = np.empty((n, 3), np.float32)
    jac = np.empty(n if mode == 1 else 0, np.float32)
    grad = np.empty((n if mode == 2 else 0, 3, 3), np.float32)
    block = 4096
    for b in prange((n + block - 1) // block):
        w, d = np.empty((3, 4), np.float32), np.empty((3, 4), np.float32)
        u, g = np.empty(3, np.float32), np.empty((3, 3), np.float32)
        for p in range(b * block, min((b + 1) * block, n)):
            _at(c, origin, h, points[p, 0], points[p, 1], points[p, 2], u, g, w, d, mode > 0)
            out[p] = u
            if mode == 1:
                jac[p] = _det(g)
            elif mode == 2:
                grad[p] = g
    return out, jac, grad


@njit(cache=True, parallel=True)
def _invert(c, origin, h, targets):  # type: ignore[no-untyped-def]
    n = targets.shape[0]
    out = np.empty((n, 3), np.float32)
    left = np.empty(n, np.float32)
    block = 4096
    for b in prange((n + block - 1) // block):
        w, d = np.empty((3, 4), np.float32), np.empty((3, 4), np.float32)
        u, g = np.empty(3, np.float32), np.empty((3, 3), np.float32)
        x, shift, r = np.empty(3, np.float32), np.zeros(3, np.float32), np.empty(3, np.float32)
        for p in range(b * block, min((b + 1) * block, n)):
            x[:] = targets[p] + shift
            size = np.float32(0)
            for step in range(40):
                _at(c, origin, h, x[0], x[1], x[2], u, g, w, d, True)
                r[:] = targets[p] - x - u
                size = np.sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2])
                if size < 0.005:
                    break
                _solve(g, r, max(_det(g), np.float32(0.15)), np.float32(8 if step < 20 else 2))
                x += r
            out[p] = x
            left[p] = size
            if size < 0.05:
                shift[:] = x - targets[p]
            else:
                shift[:] = 0
    return out, left


@njit(cache=True)
def _solve(g, r, det, most):  # type: ignore[no-untyped-def]
    """r <- (1 + g)^-1 r by the adjugate, no longer than ``most``."""
    a, e, i = 1 + g[0, 0], 1 + g[1, 1], 1 + g[2, 2]
    b, c, d, f, q, h = g[0, 1], g[0, 2], g[1, 0], g[1, 2], g[2, 0], g[2, 1]
    x = ((e * i - f * h) * r[0] + (c * h - b * i) * r[1] + (b * f - c * e) * r[2]) / det
    y = ((f * q - d * i) * r[0] + (a * i - c * q) * r[1] + (c * d - a * f) * r[2]) / det
    z = ((d * h - e * q) * r[0] + (b * q - a * h) * r[1] + (a * e - b * d) * r[2]) / det
    s = min(np.float32(1), most / (np.sqrt(x * x + y * y + z * z) + np.float32(1e-6)))
    r[0], r[1], r[2] = s * x, s * y, s * z


@njit(cache=True, parallel=True)
def _sample(a, inverse, origin, points):  # type: ignore[no-untyped-def]
    n = points.shape[0]
    out = np.empty(n, np.float32)
    block = 4096
    for b in prange((n + block - 1) // block):
        w = np.empty((3, 4), np.float32)
        index = np.empty((3, 4), np.int64)
        for p in range(b * block, min((b + 1) * block, n)):
            x, y, z = points[p, 0] - origin[0], points[p, 1] - origin[1], points[p, 2] - origin[2]
            for c in range(3):
                t = inverse[c, 0] * x + inverse[c, 1] * y + inverse[c, 2] * z
                t = min(max(t, np.float32(0)), np.float32(a.shape[c] - 1))
                k = int(t)
                f = t - np.float32(k)
                w[c, 0] = ((np.float32(-0.5) * f + 1) * f - np.float32(0.5)) * f
                w[c, 1] = (np.float32(1.5) * f - np.float32(2.5)) * f * f + 1
                w[c, 2] = ((np.float32(-1.5) * f + 2) * f + np.float32(0.5)) * f
                w[c, 3] = (np.float32(0.5) * f - np.float32(0.5)) * f * f
                for m in range(4):
                    index[c, m] = min(max(k + m - 1, 0), a.shape[c] - 1)
            total = np.float32(0)
            for m in range(4):
                for q in range(4):
                    row = a[index[0, m], index[1, q]]
                    line = np.float32(0)
                    for s in range(4):
                        line += w[2, s] * np.float32(row[index[2, s]])
                    total += w[0, m] * w[1, q] * line
            out[p] = total
    return out
