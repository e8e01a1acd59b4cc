"""Thorax phantoms whose displacement, Jacobian, mass change, classes and fractions are known exactly.

`block_phantom` is a table of homogeneous regions; `thorax_phantom` is a pair of CT volumes with

    phi(x, y, z) = (cx + a (x - cx), cy + a (y - cy), z0 + integral from z0 to z of s(x, y, t) dt)

whose Jacobian matrix is triangular, so that J = a^2 s exactly for any s > 0; s = J_target / a^2. The apex stays, the
diaphragm descends. Lung tissue keeps its mass but for the chosen blood-mass change m:
rho_i(phi(x)) = (rho_e(x) + m(x)) / J(x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from ..volume import Float, Grid, Labels, Mask, Volume
from ..vq.classes import CLASS_OF, VQClass

# --- block phantom ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """Describe one homogeneous region of the block phantom.

    Parameters
    ----------
    vq_class : VQClass
    fraction : float
        Share of the expiratory lung volume.
    jacobian : float
        Volume on inspiration over volume on expiration.
    mass_change : float
        m, g per mL of expiratory lung.
    rho_exp : float
        Density on expiration, g/mL.
    """

    vq_class: VQClass
    fraction: float
    jacobian: float
    mass_change: float
    rho_exp: float = 0.28

    @property
    def hu_exp(self) -> float:
        """Return HU on expiration."""
        return 1000 * self.rho_exp - 1000

    @property
    def hu_insp(self) -> float:
        """Return HU on inspiration."""
        return 1000 * (self.rho_exp + self.mass_change) / self.jacobian - 1000


BLOCKS = (
    Block(VQClass.NORMAL, 0.70, 2.00, 0.040),
    Block(VQClass.DEAD_SPACE, 0.10, 2.00, 0.008),
    Block(VQClass.SHUNT, 0.12, 1.25, 0.040),
    Block(VQClass.MATCHED_DEFECT, 0.08, 1.25, 0.008),
)


# --- thorax phantom --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Defect:
    """Describe an ellipsoid of lung in which ventilation, perfusion or both are low.

    Parameters
    ----------
    centre : (3,) float
        x, y, z in mm, as `thorax_phantom` places the lungs: x to the patient's left, y to the back, z up from the apex.
    radii : (3,) float
        mm along x, y, z.
    ventilation, perfusion : bool
        Which of the two is low.
    """

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    ventilation: bool
    perfusion: bool


DEFECTS = (
    Defect((-74, 4, -50), (48, 60, 26), False, True),
    Defect((-72, 4, -118), (48, 60, 24), True, False),
    Defect((72, 6, -54), (46, 60, 26), True, True),
    Defect((74, 22, -130), (40, 46, 18), False, True),
)


@dataclass(frozen=True, eq=False)
class Truth:
    """Hold a pair of CT volumes and everything that is known of it, on the expiratory grid.

    Attributes
    ----------
    inspiratory, expiratory : Volume
        int16 HU.
    displacement : (k, j, i, 3) float32
        mm, LPS (x, y, z); valid in the lungs.
    jacobian, mass_change : (k, j, i) float32
        J (1) and m (g/mL); valid in the lungs.
    lungs : (k, j, i) uint8
        1 right, 2 left.
    classes : (k, j, i) uint8
        `VQClass` from the true V and m, each below 0.60 of its mean.
    """

    inspiratory: Volume
    expiratory: Volume
    displacement: Float
    jacobian: Float
    mass_change: Float
    lungs: Labels
    classes: Labels

    def fractions(self) -> dict[VQClass, float]:
        """Return the share of the lung volume in every class; the shares sum to 1."""
        counts = np.bincount(self.classes[self.lungs > 0], minlength=len(VQClass))
        return {c: float(counts[c] / counts[1:].sum()) for c in VQClass if c}


def true_classes(jacobian: Float, mass_change: Float, lungs: Labels, low: float = 0.60) -> Labels:
    """Return the class of every lung voxel from the true J and m, without smoothing; (k, j, i) uint8."""
    inside = lungs > 0
    v, q = jacobian[inside] - 1, np.abs(mass_change[inside])
    classes = np.zeros(lungs.shape, dtype=np.uint8)
    classes[inside] = CLASS_OF[(v < low * v.mean()).astype(int), (q < low * q.mean()).astype(int)]
    return classes


@dataclass(frozen=True)
class ThoraxShape:
    """Hold size, motion and noise of the thorax phantom.

    Parameters
    ----------
    in_plane_mm, slice_mm : float
        Voxel of the expiratory CT; it is built at 1 mm along z and averaged.
    scale : float
        a, in-plane expansion on inspiration; the inspiratory CT's pixels are larger by it.
    v_normal, v_low : float
        V = J - 1 of healthy lung and of a ventilation defect.
    m_normal, m_low : float
        Blood-mass change of healthy lung and of a perfusion defect, g/mL.
    noise_insp, noise_exp : float
        Standard deviation of the noise, HU.
    """

    in_plane_mm: float = 1.25
    slice_mm: int = 2
    scale: float = 1.06
    v_normal: float = 0.45
    v_low: float = 0.05
    m_normal: float = 0.040
    m_low: float = 0.0
    noise_insp: float = 25.0
    noise_exp: float = 30.0


HALF_WIDTH, HALF_DEPTH = 168.0, 116.0  # body, mm
TOP, BOTTOM_EXP, BOTTOM_INSP = 36, 224, 280  # extent above and below the apex, mm


def thorax_phantom(
    defects: tuple[Defect, ...] = DEFECTS, shape: ThoraxShape | None = None, seed: int = 1
) -> Truth:
    """Make a thorax with two lungs, vessels, airways, heart, spine, ribs and table, in both phases.

    Parameters
    ----------
    defects : tuple of Defect
        Disjoint ones make dead space, shunt and matched defects; where they overlap both are low.
    shape : ThoraxShape
    seed : int
        Of vessels, texture and noise.
    """
    shape = shape or ThoraxShape()
    rng = np.random.default_rng(seed)
    x, y, z = _axes(shape, BOTTOM_EXP)
    lungs = lung_labels(x, y, z)
    v_share, m_share = shares(defects, x, y, z)
    jac = 1 + shape.v_low + (shape.v_normal - shape.v_low) * v_share
    m = (shape.m_low + (shape.m_normal - shape.m_low) * m_share).astype(np.float32)
    rho = _parenchyma(lungs, x, y, z, rng)
    heights = descent(jac / np.float32(shape.scale**2), z)
    z_insp = _axes(shape, BOTTOM_INSP)[2]
    inside = (lungs > 0).astype(np.float32)
    rho_insp, inside_insp = carry((rho + m) / jac, inside, heights, z_insp.ravel().astype(np.float32))
    body_exp, body_insp = _body(x, y, z), _body(x, y, z_insp)
    exp = np.where(lungs > 0, rho, body_exp)
    insp = np.where(inside_insp > 0.5, rho_insp, body_insp)
    n = shape.slice_mm
    grids = _grid(shape, exp.shape, 1.0, BOTTOM_EXP), _grid(shape, insp.shape, shape.scale, BOTTOM_INSP)
    truth_lungs = _majority(lungs, n)
    jac, m = _thin(jac.astype(np.float32), n), _thin(m, n)
    return Truth(
        inspiratory=Volume(_scan(_thin(insp, n), shape.noise_insp, rng), grids[1]),
        expiratory=Volume(_scan(_thin(exp, n), shape.noise_exp, rng), grids[0]),
        displacement=_displacement(_thin(heights - z, n), x, y, shape.scale),
        jacobian=jac,
        mass_change=m,
        lungs=truth_lungs,
        classes=true_classes(jac, m, truth_lungs),
    )


def _axes(shape: ThoraxShape, bottom: int) -> tuple[Float, Float, Float]:
    """x, y and z (up from the apex, ascending) in mm, broadcastable to (k, j, i)."""
    half = [int(np.ceil((w + 6) / shape.in_plane_mm)) for w in (HALF_WIDTH, HALF_DEPTH)]
    x, y = (np.arange(-h, h).astype(np.float32) * shape.in_plane_mm for h in half)
    length = (TOP + bottom) // shape.slice_mm * shape.slice_mm
    z = np.arange(length, dtype=np.float32) - bottom + 0.5
    return x[None, None, :], y[None, :, None], z[:, None, None]


def _grid(shape: ThoraxShape, built: tuple[int, ...], scale: float, bottom: int) -> Grid:
    spacing = (float(shape.slice_mm), shape.in_plane_mm * scale, shape.in_plane_mm * scale)
    origin = (-built[2] / 2 * spacing[2], -built[1] / 2 * spacing[1], -bottom + shape.slice_mm / 2)
    return Grid.axial((built[0] // shape.slice_mm, built[1], built[2]), spacing, origin)


def lung_labels(x: Float, y: Float, z: Float) -> Labels:
    """Return both lungs on expiration: domed apex, diaphragm bulging up, heart cut out.

    Parameters
    ----------
    x, y, z : float
        mm from the apex, as `Defect` says, broadcastable to (k, j, i).
    """
    labels = np.zeros((z.size, y.size, x.size), dtype=np.uint8)
    heart = ((x - 14) / 52) ** 2 + ((y + 34) / 46) ** 2 + ((z + 124) / 54) ** 2 < 1
    for label, xc, rx in ((1, -74.0, 55.0), (2, 74.0, 52.0)):
        r2 = ((x - xc) / rx) ** 2 + ((y - 4) / 78) ** 2
        dome = np.sqrt(np.clip(1 - (np.clip(z + 80, 0, 80) / 80) ** 2, 0, 1))
        base = -182 + 34 * np.clip(1 - r2, 0, 1)
        labels[(r2 < dome**2) & (z > base) & (z < 0) & ~heart] = label
    return labels


def shares(defects: tuple[Defect, ...], x: Float, y: Float, z: Float) -> tuple[Float, Float]:
    """Share of healthy V and of healthy Q, (k, j, i) float32, 0…1, with logistic edges 5 mm wide; x, y, z broadcast."""
    shares = [np.ones((z.size, y.size, x.size), np.float32) for _ in range(2)]
    for d in defects:
        r = np.sqrt(sum(((a - c) / s) ** 2 for a, c, s in zip((x, y, z), d.centre, d.radii, strict=True)))
        low = 1 / (1 + np.exp(np.clip((r - 1) * min(d.radii) / 1.25, -30, 30)))
        for share, hit in zip(shares, (d.ventilation, d.perfusion), strict=True):
            if hit:
                share *= 1 - low
    return shares[0], shares[1]


def _parenchyma(lungs: Labels, x: Float, y: Float, z: Float, rng: np.random.Generator) -> Float:
    """Density on expiration, g/mL: a gravity gradient, fine texture and a vessel tree."""
    texture = ndimage.gaussian_filter(rng.standard_normal(lungs.shape, dtype=np.float32), 1.6)
    rho = 0.27 + 0.0006 * y + texture * np.float32(0.02 / texture.std())
    vessels = np.zeros(lungs.shape, np.float32)
    for label, hilum in ((1, (-24.0, 6.0, -86.0)), (2, (26.0, 6.0, -90.0))):
        _grow_vessels(vessels, lungs == label, hilum, (x.ravel(), y.ravel(), z.ravel()), rng)
    return np.maximum(rho, 0.95 * vessels).astype(np.float32)


def _grow_vessels(
    out: Float,
    lung: Mask,
    hilum: tuple[float, float, float],
    axes: tuple[Float, Float, Float],
    rng: np.random.Generator,
    leaves: int = 2500,
) -> None:
    """Paint a tree that joins random points of the lung to its hilum; radii follow Murray's law."""
    index = np.argwhere(lung)
    index = index[rng.choice(len(index), leaves, replace=False)]
    points = np.stack([axes[0][index[:, 2]], axes[1][index[:, 1]], axes[2][index[:, 0]]], axis=-1)
    points = np.vstack([np.array([hilum], np.float32), points])
    from_hilum = np.linalg.norm(points - points[0], axis=1)
    order = np.argsort(from_hilum)
    points, from_hilum = points[order], from_hilum[order]
    parent = np.zeros(len(points), int)
    for n in range(1, len(points)):
        parent[n] = np.argmin(np.linalg.norm(points[:n] - points[n], axis=1) + 0.25 * from_hilum[:n])
    flow = np.ones(len(points))
    for n in range(len(points) - 1, 0, -1):
        flow[parent[n]] += flow[n]
    origin = np.array([axes[0][0], axes[1][0], axes[2][0]], np.float32)
    step = np.array([axes[0][1] - axes[0][0], axes[1][1] - axes[1][0], axes[2][1] - axes[2][0]], np.float32)
    radius = np.minimum(0.6 * flow ** (1 / 3), 5.0).astype(np.float32)
    _paint_tubes(out, points.astype(np.float32), parent, radius, origin, step)


@njit(cache=True)
def _paint_tubes(out, points, parent, radius, origin, step):  # type: ignore[no-untyped-def]
    """Balls every half millimetre along every branch, edges 0.4 mm soft, (k, j, i) maximum."""
    for n in range(1, points.shape[0]):
        a, b, r = points[parent[n]], points[n], radius[n]
        steps = int(np.sqrt(((b - a) ** 2).sum()) / 0.5) + 1
        for t in range(steps + 1):
            c = a + (b - a) * (t / steps)
            low = np.floor((c - r - 1.5 - origin) / step).astype(np.int64)
            high = np.ceil((c + r + 1.5 - origin) / step).astype(np.int64)
            for k in range(max(low[2], 0), min(high[2] + 1, out.shape[0])):
                for j in range(max(low[1], 0), min(high[1] + 1, out.shape[1])):
                    for i in range(max(low[0], 0), min(high[0] + 1, out.shape[2])):
                        dx = origin[0] + i * step[0] - c[0]
                        dy = origin[1] + j * step[1] - c[1]
                        dz = origin[2] + k * step[2] - c[2]
                        d = np.sqrt(dx * dx + dy * dy + dz * dz)
                        v = 1 / (1 + np.exp((d - r) / 0.4))
                        if v > out[k, j, i]:
                            out[k, j, i] = v


def descent(s: Float, z: Float) -> Float:
    """Integral of s from the apex (0) to z, (k, j, i), in steps of z: trapezoids from the apex downwards."""
    down = np.cumsum(s[::-1], axis=0, dtype=np.float64)[::-1] - s / 2
    above = np.sum(np.where(z > 0, s, 0), axis=0, dtype=np.float64)
    return (above - down).astype(np.float32)


@njit(cache=True)
def carry(rho, inside, heights, z_insp):  # type: ignore[no-untyped-def]
    """Move every column to its inspiratory heights and sample it at ``z_insp``: density and inside, (k, j, i)."""
    n, rows, columns = rho.shape
    out = np.zeros((z_insp.size, rows, columns), np.float32)
    mask = np.zeros((z_insp.size, rows, columns), np.float32)
    for j in range(rows):
        for i in range(columns):
            k = 0
            for t in range(z_insp.size):
                while k < n - 2 and heights[k + 1, j, i] < z_insp[t]:
                    k += 1
                span = heights[k + 1, j, i] - heights[k, j, i]
                f = (z_insp[t] - heights[k, j, i]) / span
                if f < 0 or f > 1:
                    continue
                out[t, j, i] = rho[k, j, i] * (1 - f) + rho[k + 1, j, i] * f
                mask[t, j, i] = inside[k, j, i] * (1 - f) + inside[k + 1, j, i] * f
    return out, mask


def _body(x: Float, y: Float, z: Float) -> Float:
    """Return the density (g/mL) of all that is not lung: body, ribs, spine, trachea, main bronchi, table."""
    out = np.zeros((z.size, y.size, x.size), dtype=np.float32)
    radius = np.sqrt((x / HALF_WIDTH) ** 2 + (y / HALF_DEPTH) ** 2)
    flat = np.broadcast_to(radius < 1, out.shape)
    out[flat] = 1.04
    out[np.broadcast_to((radius > 0.93) & (radius < 1), out.shape)] = 0.90
    ring = (radius > 0.86) & (radius < 0.91)
    out[np.broadcast_to(ring, out.shape) & (np.mod(z + 0.25 * y, 26) < 9)] = 1.45
    out[np.broadcast_to((x / 20) ** 2 + ((y - 88) / 16) ** 2 < 1, out.shape)] = 1.35
    out[((x / 9) ** 2 + ((y - 8) / 9) ** 2 < 1) & (z > -66)] = 0.0
    for side in (-1, 1):
        drop = -66 - np.abs(x) * 0.9
        tube = (side * x > 0) & (np.abs(x) < 26) & ((y - 8) ** 2 + (z - drop) ** 2 < 36)
        out[tube] = 0.0
    table = (np.abs(y - (HALF_DEPTH + 3)) < 2) & (np.abs(x) < 150)
    out[np.broadcast_to(table, out.shape)] = 0.6
    return out


def _thin(values: Float, n: int) -> Float:
    return values.reshape(values.shape[0] // n, n, *values.shape[1:]).mean(axis=1, dtype=np.float32)


def _majority(labels: Labels, n: int) -> Labels:
    return np.max(
        [label * (_thin((labels == label).astype(np.float32), n) > 0.5) for label in (1, 2)], axis=0
    ).astype(np.uint8)


def _displacement(dz: Float, x: Float, y: Float, scale: float) -> Float:
    out = np.empty((*dz.shape, 3), dtype=np.float32)
    out[..., 0], out[..., 1], out[..., 2] = (scale - 1) * x, (scale - 1) * y, dz
    return out


def _scan(rho: Float, sigma: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return HU with the scanner's blur and PSF-shaped noise."""
    noise = ndimage.gaussian_filter(rng.standard_normal(rho.shape, dtype=np.float32), (0, 0.8, 0.8))
    hu = 1000 * ndimage.gaussian_filter(rho, (0, 0.5, 0.5)) - 1000 + noise * np.float32(sigma / noise.std())
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
