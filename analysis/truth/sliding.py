"""Displacement of each lung -> displacement of the body around them: it follows the pleura, and slides along it.

On the surface of a lung only the component along the normal is shared: tissue neither opens a gap nor is overrun,
while the ribs stay where they are as the lung slides past them. The field minimises

    sum over surfaces (n . (x + u(x) - s(x)))^2 + stiffness * integral |d u|^2 + anchor * integral |u|^2

where s(x) is the closest point, in the direction of the normal n, of the lungs' moved surface.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg
from scipy.spatial import cKDTree

from .fields import Field, basis

Array = NDArray[np.float64]

STEP_MM = 10.0
STIFFNESS = 0.02
REACH_MM = 60.0
POINTS = 12000


def body_field(
    fields: Mapping[int, Field], surfaces: Mapping[int, tuple[Array, Array]], box: tuple[Array, Array]
) -> Field:
    """Displacement of all that is not lung, from expiration to inspiration.

    Parameters
    ----------
    fields : Field by lung
    surfaces : pair of (n, 3) float by lung
        Points on the expiratory lungs' surface and their outward normals, LPS mm.
    box : pair of (3,) float
        Lowest and highest corner of the space to cover, LPS mm.

    Returns
    -------
    Field
        Close to zero further than some 60 mm from any lung.
    """
    points, moved, normals = _moved(fields, surfaces)
    low, high = box[0] - 2 * STEP_MM, box[1] + 2 * STEP_MM
    shape = tuple(int(np.ceil(n / STEP_MM)) + 1 for n in (high - low)[::-1])
    origin = (float(low[0]), float(low[1]), float(low[2]))
    weights = basis(points, shape, origin, STEP_MM)
    tree, smooth = cKDTree(moved), _stiffness(shape)
    solution = np.zeros((int(np.prod(shape)), 3))
    for _ in range(4):
        u = weights @ solution
        _, nearest = tree.query(points + u)
        n = normals[nearest]
        gap = ((moved[nearest] - points) * n).sum(axis=1)
        solution = _solve(weights, n, gap, smooth, solution)
    return Field(solution.reshape(*shape, 3).astype(np.float32), origin, STEP_MM)


def _moved(
    fields: Mapping[int, Field], surfaces: Mapping[int, tuple[Array, Array]]
) -> tuple[Array, Array, Array]:
    """Surface points, where the lung takes them, and the normals there."""
    parts = []
    for lung, (points, normals) in surfaces.items():
        step = max(1, 2 * len(points) // POINTS)
        x, n = points[::step], normals[::step]
        deformation = np.eye(3) + fields[lung].gradient(x)
        turned = np.linalg.solve(np.swapaxes(deformation, 1, 2), n[..., None])[..., 0]
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        parts.append((x, x + fields[lung].displacement(x), turned))
    x, y, n = (np.vstack(p) for p in zip(*parts, strict=True))
    return x, y, n


def _stiffness(shape: tuple[int, ...]) -> sparse.csr_matrix:
    """STIFFNESS * sum of squared differences between neighbours + what holds far tissue in place."""
    size = int(np.prod(shape))
    total = sparse.identity(size, format="csr") * (STEP_MM / REACH_MM) ** 2
    eye = [sparse.identity(n, format="csr") for n in shape]
    for a, n in enumerate(shape):
        d = sparse.diags([-1.0, 1.0], [0, 1], shape=(n - 1, n), format="csr")
        parts = [d if c == a else eye[c] for c in range(3)]
        d = sparse.kron(sparse.kron(parts[0], parts[1]), parts[2], format="csr")
        total = total + d.T @ d
    return (STIFFNESS * total).tocsr()


def _solve(
    weights: sparse.csr_matrix, n: Array, gap: Array, smooth: sparse.csr_matrix, start: Array
) -> Array:
    """Conjugate gradients on the three components at once."""
    size, back = weights.shape[1], weights.T.tocsr()

    def apply(x: Array) -> Array:
        u = x.reshape(size, 3)
        along = ((weights @ u) * n).sum(axis=1)
        return (back @ (along[:, None] * n) + smooth @ u).ravel()

    diagonal = np.asarray(weights.power(2).T @ n**2) + smooth.diagonal()[:, None]
    right = (back @ (gap[:, None] * n)).ravel()
    operator = LinearOperator((3 * size, 3 * size), matvec=apply)
    scale = LinearOperator(operator.shape, matvec=lambda x: x / diagonal.ravel())
    solution, _ = cg(operator, right, start.ravel(), rtol=1e-4, maxiter=400, M=scale)
    return solution.reshape(size, 3)
