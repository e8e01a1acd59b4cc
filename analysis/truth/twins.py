"""A real CT volume as one phase + a real breathing motion + chosen defects -> the other phase, and the whole truth.

Lung tissue keeps its mass but for the chosen blood-mass change m: rho_i(phi(x)) J(x) = rho_e(x) + m(x), with
rho = (HU + 1000) / 1000. Vessels and other dense tissue move without a change of density (`scanner.Look.vessels`
says what counts as such); the body follows the pleura and slides along it (`analysis.truth.sliding`). The made phase
has its own grid, sharpness and noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..anatomy.morphology import grow_box
from ..errors import Rejected
from ..volume import Float, Grid, Labels, Mask, Volume
from .breathing import Array, Breathing, PhaseName, Truth, shares_of, slabs
from .defects import Defect, choose_defects, health, with_ventilation
from .fields import Field, grid_points, lattice, sample
from .motion import Motion, surface
from .scanner import Look, made_grid, scan
from .sliding import body_field
from .vessels import SOLID, between_vessels, made_by_share, vessel_share

STEP_MM = 5.0
PAD_MM = 40.0
STILL = 1e-3  # mean V of a lung that does not breathe
GAP_HU = 40.0
RIM_MM = 4.0
WALL_MM = 2.5
AIR_HU = -850
DENSE_HU = (-300.0, -100.0)


@dataclass(frozen=True, eq=False)
class Twin:
    """Hold a pair of CT volumes, one real and one made from it.

    Attributes
    ----------
    inspiratory, expiratory : Volume
        int16 HU; the real one is the very volume given.
    truth : Truth
        On the grid of ``expiratory``.
    exp_landmarks, insp_landmarks : (n, 3) float64
        The case's expert landmarks carried into this patient, LPS mm: pairs of the true displacement.
    defects : tuple of Defect
    breathing : Breathing
        Anatomy and motion: the truth at any point.
    """

    inspiratory: Volume
    expiratory: Volume
    truth: Truth
    exp_landmarks: Array
    insp_landmarks: Array
    defects: tuple[Defect, ...]
    breathing: Breathing

    def truth_on(self, grid: Grid) -> Truth:
        """Return the truth at the voxels of another grid, exactly: nothing is interpolated."""
        return self.breathing.truth(grid)


def make_twin(
    volume: Volume,
    labels: Labels,
    phase: PhaseName,
    motion: Motion,
    defects: Sequence[Defect] | None = None,
    look: Look | None = None,
    seed: int = 0,
) -> Twin:
    """Make the phase that a CT volume lacks.

    Parameters
    ----------
    volume : Volume
        Real CT, HU.
    labels : (k, j, i) uint8
        Its lungs: 1 right, 2 left.
    phase : {"inspiration", "expiration"}
        The phase that the real CT stands for.
    motion : Motion
        Of another patient, from `fit_motion`; each lung is scaled onto the CT's.
    defects : sequence of Defect, optional
        On expiration; `choose_defects` places six where none are given, () plants none.
    look : Look, optional
    seed : int
        Of defects and noise.

    Raises
    ------
    Rejected
        Where a lung is missing.
    """
    look = look or Look()
    fields = transport(motion, labels, volume.grid, phase)
    shares = shares_of(labels, volume.grid)
    plain = Breathing(shares, volume.grid, phase, fields, (), look.blood)
    if defects is None:
        defects = choose_defects({n: plain.lung_nodes(n) for n in (1, 2)}, seed=seed)
    shaped = {n: _ventilate(plain, n, defects, look.variety) for n in (1, 2)}
    breathing = Breathing(shares, volume.grid, phase, shaped, tuple(defects), look.blood)
    body = _body(breathing)
    carried = scan(_carry(volume, labels, breathing, body, look), look, np.random.default_rng(seed))
    pair = (volume, carried) if phase == "inspiration" else (carried, volume)
    marks = _landmarks(motion, labels, volume.grid, breathing)
    return Twin(pair[0], pair[1], breathing.truth(pair[1].grid), *marks, breathing.defects, breathing)


def transport(motion: Motion, labels: Labels, grid: Grid, phase: PhaseName) -> dict[int, Field]:
    """The motion in another patient: A phi A^-1, where A scales each lung's box onto the CT's; J stays what it is.

    Parameters
    ----------
    motion : Motion
    labels, grid : (k, j, i) uint8, Grid
        Lungs of the CT.
    phase : {"inspiration", "expiration"}
        The phase of the CT.

    Returns
    -------
    Field by lung
        LPS mm of the CT, from expiration to inspiration.
    """
    out = {}
    for lung, field in motion.fields.items():
        scale, shift = _fitting(motion, labels, grid, phase, lung)
        cloud = motion.pairs.exp_lungs[lung]
        low, high = (
            f(cloud, axis=0) * scale + shift + pad for f, pad in ((np.min, -PAD_MM), (np.max, PAD_MM))
        )
        shape = tuple(int(np.ceil(n / STEP_MM)) + 1 for n in (high - low)[::-1])
        origin = (float(low[0]), float(low[1]), float(low[2]))
        nodes = lattice(shape, origin, STEP_MM).reshape(-1, 3)
        u = field.displacement((nodes - shift) / scale) * scale
        out[lung] = Field.through(u.reshape(*shape, 3).astype(np.float32), origin, STEP_MM)
    return out


def _fitting(motion: Motion, labels: Labels, grid: Grid, phase: PhaseName, lung: int) -> tuple[Array, Array]:
    """Scale and shift (x, y, z) that bring the case's lung onto the CT's."""
    flat = np.flatnonzero(labels == lung)
    if not flat.size:
        raise Rejected(f"lung {lung} is missing from the labels")
    own = grid_points(grid, flat[:: max(1, flat.size // 200_000)])
    cloud = (motion.pairs.exp_lungs if phase == "expiration" else motion.pairs.insp_lungs)[lung]
    a, b = (np.percentile(c, [1, 99], axis=0) for c in (cloud, own))
    scale = (b[1] - b[0]) / (a[1] - a[0])
    return scale, b[0] - scale * a[0]


def _ventilate(breathing: Breathing, lung: int, defects: Sequence[Defect], variety: float) -> Field:
    """The lung's field with the defects' ventilation; the lung's mean ventilation stays."""
    field = breathing.fields[lung]
    nodes = field.nodes().reshape(-1, 3)
    shape = field.coefficients.shape[:3]
    inside = breathing.inside(lung, nodes).reshape(shape)
    v = field.jacobian(nodes).reshape(shape) - 1
    mean = float(v[inside].mean())
    if mean < STILL:
        return field
    v = mean * np.clip(v / mean, 0.3, 3.0) ** variety
    v *= health(defects, lung, "V", nodes).reshape(shape)
    v = ndimage.gaussian_filter(v, 0.8)
    target = 1 + v * (mean / float(v[inside].mean()))
    return with_ventilation(field, inside.astype(np.float32), target.astype(np.float32))


def _body(breathing: Breathing) -> Field:
    """Derive the body's displacement from the lungs'."""
    corners = breathing.grid.points(np.array([(0, 0, 0), breathing.grid.shape], dtype=np.float64))
    low, high = corners.min(axis=0), corners.max(axis=0)
    step = 4.0
    shape = tuple(int(n / step) for n in (high - low)[::-1])
    points = lattice(shape, tuple(low.tolist()), step).reshape(-1, 3)
    lungs = breathing.lung_at(points).reshape(shape).transpose(2, 1, 0)
    surfaces = {}
    for n in (1, 2):
        at, normals = surface(lungs == n, (step, step, step))
        surfaces[n] = (at + low, normals)
    return body_field(breathing.fields, surfaces, (low, high))


def _carry(volume: Volume, labels: Labels, breathing: Breathing, body: Field, look: Look) -> Volume:
    """The other phase without its own noise, float32 HU."""
    grid = made_grid(volume.grid, look)
    tissue = _without_lungs(volume, labels)
    tissues = _Tissues.of(volume, labels, look)
    out = np.empty(grid.shape, dtype=np.float32)
    backward = _inverse(body) if breathing.phase == "expiration" else body
    boxes = breathing.boxes if breathing.phase == "inspiration" else {n: _reach(breathing, n) for n in (1, 2)}
    for slab, points in slabs(grid):
        hu = sample(tissue, volume.grid, points + backward.displacement(points))
        for lung in breathing.fields:
            low, high = boxes[lung]
            near = np.flatnonzero(((points > low) & (points < high)).all(axis=1))
            if near.size:
                at, values = _lung_hu(tissues, breathing, lung, points[near])
                hu[near[at]] = values
        out.reshape(-1)[slab] = hu
    return Volume(out, grid)


@dataclass(frozen=True, eq=False)
class _Tissues:
    """Hold the lungs of the real phase, and what lies between their vessels where shares of blood are asked for."""

    lungs: Volume
    between: Volume | None

    @classmethod
    def of(cls, volume: Volume, labels: Labels, look: Look) -> _Tissues:
        lungs = Volume(_without_wall(volume, labels), volume.grid)
        return cls(lungs, between_vessels(lungs, labels) if look.vessels == "share" else None)

    def at(self, points: Float) -> tuple[Float, Float | None]:
        """Return HU (n,) at points of the real phase, and the share of blood (n,) in them where it is asked for."""
        hu = sample(self.lungs.array, self.lungs.grid, points)
        if self.between is None:
            return hu, None
        return hu, vessel_share(hu, sample(self.between.array, self.between.grid, points))


def _lung_hu(tissues: _Tissues, breathing: Breathing, lung: int, points: Float) -> tuple[Mask, Float]:
    """Which points of the made phase lie in the lung, and their HU."""
    field = breathing.fields[lung]
    if breathing.phase == "inspiration":
        inside = breathing.lung_at(points) == lung
        x = points[inside]
        real = x + field.displacement(x)
    else:
        x, left = field.inverse(points)
        inside = (breathing.lung_at(x) == lung) & (left < 0.05)
        x = x[inside]
        real = x
    hu, blood = tissues.at(real)
    change = _by_density if blood is None else partial(made_by_share, blood)
    made = change(
        1 + hu / np.float32(1000), field.jacobian(x), breathing.mass_change(x, lung), breathing.phase
    )
    return inside, np.clip(1000 * made - 1000, -1000, 3071).astype(np.float32)


def _by_density(rho: Float, jac: Float, m: Float, real: PhaseName) -> Float:
    """Return density of the made phase from the real phase's at the same tissue; dense tissue keeps its own."""
    t = np.clip((1000 * rho - 1000 - DENSE_HU[0]) / (DENSE_HU[1] - DENSE_HU[0]), 0, 1)
    air = 1 - t * t * (3 - 2 * t)
    j = jac**air
    made = (rho + m * air) / j if real == "expiration" else rho * j - m * air
    return made if real == "expiration" else np.minimum(made, np.maximum(rho, SOLID))


def _reach(breathing: Breathing, lung: int) -> tuple[Array, Array]:
    """Return the box of a lung on inspiration, LPS mm."""
    x = breathing.lung_nodes(lung)
    y = x + breathing.fields[lung].displacement(x)
    return y.min(axis=0) - 2 * STEP_MM, y.max(axis=0) + 2 * STEP_MM


def _without_lungs(volume: Volume, labels: Labels) -> NDArray[np.int16]:
    """The CT with soft tissue in place of the lungs and of the pale voxels at their border."""
    reach = [max(1, round(RIM_MM / volume.grid.spacing[axis])) for axis in (0, 2)]
    lungs = labels > 0
    around = ndimage.binary_dilation(lungs, np.ones((1, 3, 3), dtype=bool), iterations=reach[1])
    around = ndimage.binary_dilation(around, np.ones((3, 1, 1), dtype=bool), iterations=reach[0])
    fill = lungs | (around & (volume.array < -100) & (volume.array > AIR_HU))
    return np.where(fill, np.int16(GAP_HU), np.clip(np.rint(volume.array), -1024, 3071).astype(np.int16))


def _without_wall(volume: Volume, labels: Labels) -> NDArray[np.int16]:
    """The CT with the lungs' rim as dense as the lung behind it: the wall's blur is the scanner's, not tissue.

    So are the voxels just outside, which are interpolated between wherever the surface lies between two voxels.
    """
    out = np.array(volume.array, dtype=np.int16)
    box = ndimage.find_objects((labels > 0).astype(np.uint8))[0]
    box = grow_box(box, WALL_MM, volume.grid.spacing, labels.shape)
    lungs = labels[box] > 0
    deep = ndimage.distance_transform_edt(lungs, sampling=volume.grid.spacing) > WALL_MM
    behind = ndimage.distance_transform_edt(
        ~deep, sampling=volume.grid.spacing, return_distances=False, return_indices=True
    )
    rim = ndimage.binary_dilation(lungs, np.ones((3, 3, 3), dtype=bool)) & ~deep
    out[box][rim] = np.minimum(out[box], out[box][tuple(behind)])[rim]
    return out


def _inverse(field: Field) -> Field:
    nodes = field.nodes().reshape(-1, 3)
    x, _ = field.inverse(nodes)
    u = (x - nodes).astype(np.float32)
    return Field.through(u.reshape(field.coefficients.shape), field.origin, field.step)


def _landmarks(motion: Motion, labels: Labels, grid: Grid, breathing: Breathing) -> tuple[Array, Array]:
    """The case's expert landmarks in this patient: those that lie in the lungs."""
    before, after = [], []
    for lung, field in breathing.fields.items():
        scale, shift = _fitting(motion, labels, grid, breathing.phase, lung)
        x = motion.landmarks[lung] * scale + shift
        x = x[breathing.lung_at(x) == lung]
        before.append(x)
        after.append(x + field.displacement(x))
    return np.vstack(before), np.vstack(after)
