"""Chosen ventilation and perfusion defects -> the share of health at every point, and a field that ventilates so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from ..volume import Float
from .fields import Field, Points

Array = NDArray[np.float64]
EDGE_MM = 2.0


@dataclass(frozen=True)
class Defect:
    """Describe a piece of lung in which ventilation, perfusion or both are low.

    Parameters
    ----------
    kind : {"V", "Q", "VQ"}
        What is low.
    lung : int
        1 right, 2 left.
    centre : (3,) float
        LPS mm on expiration.
    radius_mm : float
        Radius of the sphere, or of the wedge at its centre (mm).
    hilum : (3,) float, optional
        If given, the defect is a wedge (a cone) that opens from there through the centre to the pleura, as behind an
        occluded artery; else a sphere.
    low : float
        What is left of V or Q, 0…1.
    """

    kind: Literal["V", "Q", "VQ"]
    lung: int
    centre: tuple[float, float, float]
    radius_mm: float
    hilum: tuple[float, float, float] | None = None
    low: float = 0.15

    def level(self, points: Points) -> Array:
        """Return (n,) mm, below ``radius_mm`` inside the defect."""
        p = np.asarray(points, dtype=np.float64)
        if self.hilum is None:
            return np.linalg.norm(p - self.centre, axis=1)
        axis = np.subtract(self.centre, self.hilum)
        length = float(np.linalg.norm(axis))
        along = (p - self.hilum) @ (axis / length)
        across = np.linalg.norm(p - self.hilum - along[:, None] * (axis / length), axis=1)
        cone = across * length / np.maximum(along, 1.0)
        return np.maximum(cone, self.radius_mm + (0.45 * length - along))

    def health(self, points: Points) -> Array:
        """Return the (n,) share of V or Q that is left, ``low``…1, with a logistic edge."""
        inside = 1 / (1 + np.exp(np.clip((self.level(points) - self.radius_mm) / EDGE_MM, -30, 30)))
        return 1 - (1 - self.low) * inside


def health(defects: Sequence[Defect], lung: int, what: Literal["V", "Q"], points: Points) -> Array:
    """Return the (n,) share of V or of Q that is left at points of one lung."""
    out = np.ones(len(points))
    for d in defects:
        if d.lung == lung and what in d.kind:
            out = np.minimum(out, d.health(points))
    return out


#: kind, lung, place in the lung's box (x, y, z; 0 right, front, foot), wedge
PLACES: tuple[tuple[Literal["V", "Q", "VQ"], int, tuple[float, float, float], bool], ...] = (
    ("Q", 1, (0.30, 0.70, 0.25), True),
    ("V", 1, (0.45, 0.35, 0.50), False),
    ("VQ", 1, (0.45, 0.60, 0.80), False),
    ("Q", 2, (0.55, 0.40, 0.72), True),
    ("V", 2, (0.60, 0.70, 0.50), False),
    ("VQ", 2, (0.60, 0.70, 0.20), False),
)


def choose_defects(clouds: Mapping[int, Array], share: float = 0.28, seed: int = 0) -> tuple[Defect, ...]:
    """Place dead space, shunt and a matched defect in each lung.

    Parameters
    ----------
    clouds : (n, 3) float by lung
        Points spread evenly over each expiratory lung, LPS mm.
    share : float
        Of the lungs' volume that is to be abnormal.
    seed : int
        Shifts the places by up to 6 % of the lung.
    """
    rng = np.random.default_rng(seed)
    total = sum(len(c) for c in clouds.values())
    out = []
    for kind, lung, place, wedge in PLACES:
        cloud = clouds[lung]
        low, high = np.percentile(cloud, [1, 99], axis=0)
        wanted = low + (np.array(place) + rng.uniform(-0.06, 0.06, 3)) * (high - low)
        centre = cloud[np.argmin(np.linalg.norm(cloud - wanted, axis=1))]
        inner = high[0] if lung == 1 else low[0]
        hilum = (
            (float(inner), float((low[1] + high[1]) / 2), float((low[2] + high[2]) / 2)) if wedge else None
        )
        out.append(
            _sized(Defect(kind, lung, tuple(centre.tolist()), 1.0, hilum), cloud, share * total / len(PLACES))
        )
    return tuple(out)


def _sized(defect: Defect, cloud: Array, wanted: float) -> Defect:
    """Return the defect with the radius at which it holds ``wanted`` points of the cloud."""
    low, high = 1.0, 120.0
    for _ in range(20):
        radius = (low + high) / 2
        trial = Defect(defect.kind, defect.lung, defect.centre, radius, defect.hilum, defect.low)
        if np.count_nonzero(trial.level(cloud) < radius) < wanted:
            low = radius
        else:
            high = radius
    return trial


def with_ventilation(field: Field, inside: Float, target: Float, rounds: int = 4) -> Field:
    """Compose a field with a deformation of expiration that brings its Jacobian to ``target`` in the lung.

    Each round flows along the gradient of a potential whose Laplacian is log(target / J) (Dacorogna and Moser 1990,
    doi:10.1016/S0294-1449(16)30307-9): a smooth motion, free of rotation, that fades with the distance.

    Parameters
    ----------
    field : Field
    inside : (K, J, I) float32
        Share of lung at the field's nodes.
    target : (K, J, I) float32
        J wanted there, > 0.
    """
    nodes = field.nodes().reshape(-1, 3)
    weight = ndimage.gaussian_filter(inside, 0.7)
    for _ in range(rounds):
        jac = field.jacobian(nodes).reshape(inside.shape)
        rate = np.clip(np.log(target / np.maximum(jac, 0.05)), -1, 1) * weight
        rate -= weight * (rate.sum() / weight.sum())
        field = field.after(_flow(rate.astype(np.float32), field))
    return field


def _flow(rate: Float, like: Field) -> Field:
    """exp of the velocity whose divergence is ``rate`` (mean 0), by scaling and squaring on the nodes of ``like``."""
    shape = [fft.next_fast_len(n, real=True) for n in rate.shape]
    waves = [2 * np.pi * fft.fftfreq(n, like.step) for n in shape[:2]] + [
        2 * np.pi * fft.rfftfreq(shape[2], like.step)
    ]
    square = sum(w.reshape([-1 if a == b else 1 for b in range(3)]) ** 2 for a, w in enumerate(waves))
    square[0, 0, 0] = 1
    potential = fft.rfftn(rate, shape) / -square
    parts = []
    for axis in (2, 1, 0):
        wave = waves[axis].reshape([-1 if axis == b else 1 for b in range(3)])
        part = fft.irfftn(1j * wave * potential, shape)
        parts.append(part[tuple(slice(0, n) for n in rate.shape)])
    velocity = np.stack(parts, axis=-1).astype(np.float32)
    flow = Field.through(velocity / np.float32(16), like.origin, like.step)
    for _ in range(4):
        flow = flow.after(flow)
    return flow
