"""A breath that no patient took: smooth, invertible, and there for whoever has no patient's motion.

The lungs of the thorax phantom hang from their apex and lie on their back, as a patient's do in the scanner: the
diaphragm descends, more at the back than at the front, and the chest rises. Real motion, which `motion.fit_motion`
fits, is less even, so that a twin of this breath says less about patients.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .fields import Field, lattice
from .motion import MARGIN_MM, STEP_MM, Array, Motion, Pairs
from .phantom import lung_labels

#: Descent of the diaphragm between front and back (mm), and how much more it is at the back (share).
DESCENT_MM, MORE_AT_THE_BACK = 55.0, 0.25
#: Widening of the chest, and its rise from the back (shares).
WIDENS, RISES = 0.03, 0.05
#: Distance of the points that stand for the lungs (mm).
APART_MM = 4.0
#: Pairs of points of each lung that play landmarks.
LANDMARKS = 150


def made_motion() -> Motion:
    """Make the breath, on the lungs of the thorax phantom; the same at every call."""
    x, y, z = (np.arange(*ends, APART_MM, dtype=np.float32) for ends in ((-140, 140), (-90, 100), (-200, 4)))
    labels = lung_labels(x[None, None, :], y[None, :, None], z[:, None, None])
    lungs = {}
    for n in (1, 2):
        k, j, i = np.nonzero(labels == n)
        lungs[n] = np.stack([x[i], y[j], z[k]], axis=1).astype(np.float64)
    breath = _breath(np.vstack(list(lungs.values())))
    rng = np.random.default_rng(1)
    marks = np.vstack([cloud[rng.choice(len(cloud), LANDMARKS, replace=False)] for cloud in lungs.values()])
    carried = marks + breath(marks)
    inspired = {n: cloud + breath(cloud) for n, cloud in lungs.items()}
    pairs = Pairs(marks, carried, marks, carried, lungs, inspired, {}, {})
    fields = {n: _field(cloud, breath) for n, cloud in lungs.items()}
    jacobians = np.concatenate([fields[n].jacobian(cloud) for n, cloud in lungs.items()])
    none = np.zeros(len(marks))
    extent = float(jacobians.min()), float(jacobians.max())
    return Motion(fields, pairs, 0.0, none, none, extent, float(jacobians.mean()))


def _breath(lungs: Array) -> Callable[[Array], Array]:
    """Return the displacement (mm) of points (n, 3) of a patient whose lungs fill ``lungs``; LPS mm."""
    low, high = lungs.min(axis=0), lungs.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2

    def displacement(points: Array) -> Array:
        depth = (high[2] - points[:, 2]) / (high[2] - low[2])  # 0 at the apex, 1 at the base
        back = (points[:, 1] - middle[1]) / half[1]  # -1 at the front, 1 at the back
        down = DESCENT_MM * (0.6 * depth + 0.4 * depth**2) * (1 + MORE_AT_THE_BACK * back)
        wider = WIDENS * (points[:, 0] - middle[0])
        rise = RISES * (points[:, 1] - high[1])
        return np.stack([wider, rise, -down], axis=1)

    return displacement


def _field(cloud: Array, breath: Callable[[Array], Array]) -> Field:
    """Return the displacement on a lattice around a lung."""
    low, high = cloud.min(axis=0) - MARGIN_MM, cloud.max(axis=0) + MARGIN_MM
    shape = tuple(int(np.ceil(n / STEP_MM)) + 1 for n in (high - low)[::-1])
    origin = (float(low[0]), float(low[1]), float(low[2]))
    nodes = lattice(shape, origin, STEP_MM).reshape(-1, 3)
    u = breath(nodes.astype(np.float64)).astype(np.float32)
    return Field.through(u.reshape(*shape, 3), origin, STEP_MM)
