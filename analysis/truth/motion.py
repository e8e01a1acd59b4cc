"""Corresponding points and lung masks of two phases -> a smooth, invertible displacement of each lung.

Each lung has a field of its own, so that the lungs slide along each other and along the chest wall. A field is a
cubic B-spline that minimises

    sum w |x + u(x) - y|^2 + sum over surfaces w_s (n . (x + u(x) - s(x)))^2 + bending * integral |d^2 u|^2

over point pairs (x, y) and the masks' surfaces, whose closest points s(x) are looked for anew in every round
(Besl and McKay 1992, doi:10.1109/34.121791). Residuals are weighted down as Cauchy's function does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.linalg import solveh_banded
from scipy.spatial import cKDTree

from ..errors import Rejected
from ..volume import Mask
from .fields import Field, basis

Array = NDArray[np.float64]

STEP_MM = 18.0
MARGIN_MM = 45.0
BENDINGS = (0.01, 0.03, 0.1, 0.3)
MIN_JACOBIAN = 0.2
SURFACE_WEIGHT = 0.15
CAUCHY_MM = 3.0
MAX_SURFACE_POINTS = 4000


@dataclass(frozen=True, eq=False)
class Pairs:
    """Hold corresponding points and lungs of two phases of one patient.

    Parameters
    ----------
    exp_keypoints, insp_keypoints : (n, 3) float
        Automatic pairs, LPS mm.
    exp_landmarks, insp_landmarks : (m, 3) float
        Expert pairs, LPS mm.
    exp_lungs, insp_lungs : (p, 3) float by lung (1 right, 2 left)
        Centres of the voxels of each lung, LPS mm.
    """

    exp_keypoints: Array
    insp_keypoints: Array
    exp_landmarks: Array
    insp_landmarks: Array
    exp_lungs: Mapping[int, Array]
    insp_lungs: Mapping[int, Array]
    exp_surfaces: Mapping[int, Array]
    insp_surfaces: Mapping[int, tuple[Array, Array]]

    @classmethod
    def of(
        cls,
        keypoints: tuple[Array, Array],
        landmarks: tuple[Array, Array],
        masks: tuple[Mask, Mask],
        spacing: tuple[float, float, float],
        insp_offset: Array | None = None,
    ) -> Pairs:
        """From points in mm = index x spacing and masks indexed [x, y, z]: x to the left, y to the back, z to the head.

        Parameters
        ----------
        keypoints, landmarks : pair of (n, 3) float
            On expiration and on inspiration, mm.
        masks : pair of (x, y, z) bool
            Lungs on expiration and on inspiration.
        spacing : (3,) float
            mm along x, y, z.
        insp_offset : (3,) float, optional
            mm to add to all that is inspiratory. Where it is not finite, the lungs' back, top and middle stay in place.
        """
        labels = [split_lungs(mask, spacing) for mask in masks]
        clouds = [{n: np.argwhere(a == n) * np.array(spacing) for n in (1, 2)} for a in labels]
        offset = np.full(3, np.nan) if insp_offset is None else np.asarray(insp_offset, dtype=np.float64)
        if not np.isfinite(offset).all():
            offset = rest_offset(*(np.vstack(list(c.values())) for c in clouds))
        surfaces = [{n: surface(a == n, spacing) for n in (1, 2)} for a in labels]
        return cls(
            np.asarray(keypoints[0], float),
            np.asarray(keypoints[1], float) + offset,
            np.asarray(landmarks[0], float),
            np.asarray(landmarks[1], float) + offset,
            clouds[0],
            {n: c + offset for n, c in clouds[1].items()},
            {n: s[0] for n, s in surfaces[0].items()},
            {n: (s[0] + offset, s[1]) for n, s in surfaces[1].items()},
        )


@dataclass(frozen=True, eq=False)
class Motion:
    """Hold a patient's breathing from expiration to inspiration.

    Attributes
    ----------
    fields : Field by lung
        1 right, 2 left; LPS mm of the patient.
    pairs : Pairs
        What they were fitted to.
    bending : float
        Weight of the bending energy.
    landmark_error, fitted_error : (m,) float
        Residual at the expert landmarks, mm: predicted without them, and with them.
    jacobian_range : (2,) float
        Least and largest J in the expiratory lungs.
    volume_ratio : float
        Inspired over expired volume by the field: the mean of J.
    """

    fields: Mapping[int, Field]
    pairs: Pairs
    bending: float
    landmark_error: Array
    fitted_error: Array
    jacobian_range: tuple[float, float]
    volume_ratio: float

    @property
    def landmarks(self) -> dict[int, Array]:
        """Return the expert landmarks on expiration by lung, LPS mm."""
        trees = {n: cKDTree(c) for n, c in self.pairs.exp_lungs.items()}
        x = self.pairs.exp_landmarks
        right = trees[1].query(x)[0] < trees[2].query(x)[0]
        return {1: x[right], 2: x[~right]}


def fit_motion(pairs: Pairs) -> Motion:
    """Fit each lung's displacement.

    The weight of the bending energy is the one that predicts the expert landmarks best from the keypoints alone; it
    is raised until J > 0.2 everywhere in the expiratory lungs.

    Raises
    ------
    Rejected
        Where a lung has less than 50 pairs, or no weight makes the field invertible.
    """
    fits = {n: _LungFit(pairs, n) for n in (1, 2)}
    blind = {b: np.concatenate([f.blind_error(b) for f in fits.values()]) for b in BENDINGS}
    bending = min(blind, key=lambda b: float(blind[b].mean()))
    error = blind[bending]
    fields = {n: f.invertible(bending) for n, f in fits.items()}
    jacobians = np.concatenate([fields[n].jacobian(pairs.exp_lungs[n]) for n in fields])
    fitted = np.concatenate([f.landmark_error(fields[n]) for n, f in fits.items()])
    return Motion(
        fields, pairs, bending, error, fitted,
        (float(jacobians.min()), float(jacobians.max())), float(jacobians.mean()),
    )  # fmt: skip


class _LungFit:
    """Normal equations of one lung, on a lattice around it."""

    def __init__(self, pairs: Pairs, lung: int) -> None:
        cloud = pairs.exp_lungs[lung]
        self.origin = tuple((cloud.min(axis=0) - MARGIN_MM).tolist())
        size = np.ptp(cloud, axis=0) + 2 * MARGIN_MM
        self.shape = tuple(int(np.ceil(s / STEP_MM)) + 1 for s in size[::-1])
        tree, other = cKDTree(cloud), cKDTree(pairs.exp_lungs[3 - lung])
        self.cloud = cloud[:: max(1, len(cloud) // 200_000)]
        self.keys, self.key_targets = _own(pairs.exp_keypoints, pairs.insp_keypoints, tree, other)
        self.marks, self.mark_targets = _own(pairs.exp_landmarks, pairs.insp_landmarks, tree, other)
        if len(self.keys) < 50:
            raise Rejected(f"lung {lung} has {len(self.keys)} point pairs; at least 50 are needed")
        surface_points = pairs.exp_surfaces[lung]
        self.rim = surface_points[:: max(1, len(surface_points) // MAX_SURFACE_POINTS)]
        self.surface, self.normals = pairs.insp_surfaces[lung]
        self.tree = cKDTree(self.surface)
        self.stiffness = _bending(self.shape)

    def blind_error(self, bending: float) -> Array:
        """Return the residuals (mm) at the expert landmarks of the fit to keypoints and surfaces."""
        return self.landmark_error(self.fit(bending, self.keys, self.key_targets))

    def landmark_error(self, field: Field) -> Array:
        return np.linalg.norm(self.marks + field.displacement(self.marks) - self.mark_targets, axis=1)

    def invertible(self, bending: float) -> Field:
        """Fit all pairs, with as much bending energy as J > 0.2 requires."""
        x, y = np.vstack([self.keys, self.marks]), np.vstack([self.key_targets, self.mark_targets])
        for _ in range(12):
            field = self.fit(bending, x, y)
            if field.jacobian(self.cloud).min() > MIN_JACOBIAN:
                return field
            bending *= 2
        raise Rejected("no smooth invertible field fits the point pairs")

    def fit(self, bending: float, x: Array, y: Array, rounds: int = 4) -> Field:
        """Fit, weigh residuals, look for closest surface points, and again."""
        inner = basis(x, self.shape, self.origin, STEP_MM)
        rim = basis(self.rim, self.shape, self.origin, STEP_MM)
        weights, pull, targets = np.ones(len(x)), np.zeros(len(self.rim)), np.zeros_like(self.rim)
        solution = np.zeros((int(np.prod(self.shape)), 3))
        for _ in range(rounds):
            normal = inner.T @ inner.multiply(weights[:, None]) + rim.T @ rim.multiply(pull[:, None])
            right = inner.T @ (weights[:, None] * (y - x)) + rim.T @ (pull[:, None] * targets)
            solution = _solve(normal + bending * self.stiffness, right)
            residual = np.linalg.norm(x + inner @ solution - y, axis=1)
            weights = 1 / (1 + (residual / CAUCHY_MM) ** 2)
            pull, targets = self._pull(rim @ solution)
        coefficients = solution.reshape(*self.shape, 3).astype(np.float32)
        return Field(coefficients, self.origin, STEP_MM)

    def _pull(self, u: Array) -> tuple[Array, Array]:
        """Return the rim points' weights and the displacement of each onto the inspiratory surface."""
        moved = self.rim + u
        _, nearest = self.tree.query(moved)
        normals = self.normals[nearest]
        gap = ((self.surface[nearest] - moved) * normals).sum(axis=1)
        away = np.linalg.norm(self.surface[nearest] - moved, axis=1)
        weight = SURFACE_WEIGHT / (1 + (away / (2 * CAUCHY_MM)) ** 2)
        return weight, u + gap[:, None] * normals


def _own(x: Array, y: Array, own: cKDTree, other: cKDTree) -> tuple[Array, Array]:
    mine = own.query(x)[0] < other.query(x)[0]
    return x[mine], y[mine]


def _bending(shape: tuple[int, ...]) -> sparse.csr_matrix:
    """Sum of squared second differences of the coefficients, as a matrix."""
    eye = [sparse.identity(n, format="csr") for n in shape]
    first = [sparse.diags([-1.0, 1.0], [0, 1], shape=(n - 1, n), format="csr") for n in shape]
    second = [sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(n - 2, n), format="csr") for n in shape]
    total = sparse.csr_matrix((int(np.prod(shape)),) * 2)
    for a in range(3):
        for b in range(a, 3):
            parts = [
                second[c] if a == b == c else first[c] if c in (a, b) and a != b else eye[c] for c in range(3)
            ]
            d = sparse.kron(sparse.kron(parts[0], parts[1]), parts[2])
            total = total + (1 if a == b else 2) * (d.T @ d)
    return (total + 1e-6 * sparse.identity(total.shape[0])).tocsr()


def _solve(matrix: sparse.csr_matrix, right: Array) -> Array:
    """Cholesky of a banded matrix; the lattice's slowest axis is its longest, so that the band is narrow."""
    upper = sparse.triu(matrix).tocoo()
    width = int((upper.col - upper.row).max())
    band = np.zeros((width + 1, matrix.shape[0]))
    band[width + upper.row - upper.col, upper.col] = upper.data
    return solveh_banded(band, right, overwrite_ab=True, check_finite=False)


def rest_offset(exp_cloud: Array, insp_cloud: Array) -> Array:
    """mm to add to inspiration so that the lungs' top, back and middle between left and right stay in place."""
    e0, e1 = np.percentile(exp_cloud, [0.2, 99.8], axis=0)
    i0, i1 = np.percentile(insp_cloud, [0.2, 99.8], axis=0)
    return np.array([(e0[0] + e1[0] - i0[0] - i1[0]) / 2, e1[1] - i1[1], e1[2] - i1[2]])


def split_lungs(mask: Mask, spacing: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Label right (1) and left (2) lung of a mask [x, y, z] whose x runs to the patient's left.

    The mask is eroded until two large pieces remain; every voxel belongs to the nearer one.

    Raises
    ------
    Rejected
        Where the mask does not fall into two.
    """
    depth = ndimage.distance_transform_edt(mask, sampling=spacing)
    for mm in np.arange(0.0, 25.0, 1.5):
        pieces, n = ndimage.label(depth > mm)
        sizes = np.bincount(pieces.ravel(), minlength=3)[1:]
        two = np.argsort(-sizes)[:2] + 1
        if n >= 2 and sizes[two[1] - 1] > 0.25 * sizes.sum():
            break
    else:
        raise Rejected("the lung mask does not fall into a right and a left lung")
    x = [float(np.mean(np.nonzero((pieces == n).any(axis=(1, 2)))[0])) for n in two]
    seeds = np.select([pieces == two[int(np.argmin(x))], pieces == two[int(np.argmax(x))]], [1, 2], 0)
    nearest = ndimage.distance_transform_edt(
        seeds == 0, sampling=spacing, return_distances=False, return_indices=True
    )
    return np.where(mask, seeds[tuple(nearest)], 0).astype(np.uint8)


def surface(mask: Mask, spacing: tuple[float, float, float]) -> tuple[Array, Array]:
    """Return points on the border of a mask and their outward normals, mm along its axes."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), [2.0 / s for s in spacing])
    border = mask & ~ndimage.binary_erosion(mask)
    index = np.argwhere(border)
    normals = np.stack([-np.gradient(soft, s, axis=a)[border] for a, s in enumerate(spacing)], axis=-1)
    length = np.linalg.norm(normals, axis=1)
    good = length > 1e-4
    normals = normals[good] / length[good, None]
    return index[good] * np.array(spacing) + normals * min(spacing) / 2, normals.astype(np.float64)
