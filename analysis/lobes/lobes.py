"""A CT and its lungs -> the five lobes, and how much of each fissure is seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..anatomy.axes import PatientAxes
from ..anatomy.morphology import Spacing
from ..anatomy.sides import Lung
from ..volume import Grid, Labels, Mask, Volume
from .fissures import Fissure, fit
from .planes import EVERY, HORIZONTAL, HORIZONTAL_IN_LUNG, OBLIQUE, Expected, Plane, distinct, planes, through
from .tissue import Tissue, resampled

#: Label of a lobe (1 + its place in `anatomy.regions.LOBES`) -> the fissures between it and its neighbours.
BORDERS: Mapping[int, tuple[str, ...]] = {
    1: ("right oblique", "right horizontal"),
    2: ("right oblique", "right horizontal"),
    3: ("right oblique",),
    4: ("left oblique",),
    5: ("left oblique",),
}
#: How many planes are tried for an oblique fissure.
TRIED = 4
#: Thickness of what is taken for one fissure, each side, mm.
THICK_MM = 4.0
#: How little the expected share weighs beside what is seen.
PRIOR = 24.0


@dataclass(frozen=True, eq=False)
class FoundLobes:
    """Hold the lobes of one CT.

    Attributes
    ----------
    labels : (k, j, i) uint8
        1 + the place in `anatomy.regions.LOBES`; 0 none.
    fissures : mapping of str to Fissure
        ``"right oblique"``, ``"right horizontal"``, ``"left oblique"``: those of lungs that are there.
    """

    labels: Labels
    fissures: Mapping[str, Fissure]


def find(ct: Volume, lungs: Labels, grid: Grid) -> FoundLobes:
    """Find the lobes without weights of a network: from plates, vessels and smooth surfaces.

    Parameters
    ----------
    ct : Volume
        HU, finest voxels that there are.
    lungs : (k, j, i) uint8
        1 right, 2 left.
    grid : Grid
        Of ``lungs``; covers the same box as ``ct``, along the same axes.

    Returns
    -------
    FoundLobes
        On ``grid``.

    References
    ----------
    Lassen et al. 2013, doi:10.1109/TMI.2012.2219881 (fissures, vessels and airways together); Hough planes, heights by
    semi-global matching and the shares that are seen are our own.
    """
    axes = PatientAxes.of(grid)
    hu, labels = axes.to_patient(np.asarray(ct.array)), axes.to_patient(lungs)
    fine = PatientAxes.of(ct.grid).spacing
    out = np.zeros(labels.shape, dtype=np.uint8)
    fissures: dict[str, Fissure] = {}
    for lung, found_by in ((Lung.RIGHT, _right), (Lung.LEFT, _left)):
        boxes = _boxes(labels == lung, axes.spacing, fine, hu.shape)
        if boxes is None:
            continue
        box, fine_box = boxes
        mask = labels[box] == lung
        array, spacing = resampled(hu[fine_box], fine)
        tissue = Tissue.of(array, _nearest(mask, axes.spacing, array.shape, spacing), spacing)
        here = found_by(tissue)
        fissures |= here
        index = np.nonzero(mask)
        points = (np.stack(index, axis=1) + 0.5) * np.array(axes.spacing) - 0.5 * np.array(spacing)
        out[box][index] = _label(points, here)
    return FoundLobes(np.ascontiguousarray(axes.from_patient(out)), fissures)


@dataclass(frozen=True, eq=False)
class _Tried:
    """Hold an oblique fissure and what it is worth."""

    fissure: Fissure
    worth: float


def _left(tissue: Tissue) -> dict[str, Fissure]:
    tried = _obliques(tissue, planes(tissue, tissue.lung, OBLIQUE, TRIED))
    return {"left oblique": tried[0].fissure} if tried else {}


def _right(tissue: Tissue) -> dict[str, Fissure]:
    """Return the pair of fissures of which the most is seen: an oblique one alone may lie along the horizontal one."""
    candidates = planes(tissue, tissue.lung, OBLIQUE, TRIED)
    candidates += planes(_without_horizontal(tissue), tissue.lung, OBLIQUE, 2 * TRIED)
    best, most = {}, -np.inf
    for oblique in _obliques(tissue, distinct(candidates)):
        part = _over(tissue, oblique.fissure)
        for plane in planes(tissue, part, HORIZONTAL, 1):
            horizontal = fit(tissue, part, plane)
            worth = oblique.worth + _worth(tissue, part, horizontal, HORIZONTAL)
            if worth > most:
                best, most = {"right oblique": oblique.fissure, "right horizontal": horizontal}, worth
    return best


def _obliques(tissue: Tissue, candidates: list[Plane]) -> list[_Tried]:
    """Return the fissures near the best planes, each fitted again about the plane of what is seen, the best first."""
    first = sorted((_tried(tissue, plane) for plane in candidates), key=lambda one: -one.worth)[:TRIED]
    again = [(one, through(one.fissure.points, OBLIQUE)) for one in first]
    found = [max(one, _tried(tissue, plane), key=lambda o: o.worth) if plane else one for one, plane in again]
    return sorted(found, key=lambda one: -one.worth)


def _tried(tissue: Tissue, plane: Plane) -> _Tried:
    fissure = fit(tissue, tissue.lung, plane)
    return _Tried(fissure, _worth(tissue, tissue.lung, fissure, OBLIQUE))


def _without_horizontal(tissue: Tissue) -> Tissue:
    """Return a lung without the plates of what may be the horizontal fissure, where there is one."""
    strength = tissue.strength.copy()
    for plane in planes(tissue, tissue.lung, HORIZONTAL_IN_LUNG, 1):
        index = np.nonzero(strength)
        above = fit(tissue, tissue.lung, plane).above(np.stack(index, axis=1) * np.array(tissue.spacing))
        strength[index] *= np.abs(above) > THICK_MM
    return replace(tissue, strength=strength)


def _worth(tissue: Tissue, part: Mask, fissure: Fissure, expected: Expected) -> float:
    """Return the area that is seen, mm²; less where it divides a part of the lung as fissures seldom do."""
    points = np.argwhere(part)[::EVERY] * np.array(tissue.spacing)
    unlikely = float(expected.unlikely(float((fissure.above(points) < 0).mean())))
    return fissure.seen * fissure.area * float(np.exp(-unlikely / PRIOR))


def _over(tissue: Tissue, fissure: Fissure) -> Mask:
    """Return the voxels of a lung over a fissure."""
    out = np.zeros(tissue.lung.shape, dtype=np.bool_)
    index = np.nonzero(tissue.lung)
    out[index] = fissure.above(np.stack(index, axis=1) * np.array(tissue.spacing)) >= 0
    return out


def _label(points: NDArray[np.float64], fissures: Mapping[str, Fissure]) -> Labels:
    """Return the lobe of points (n, 3), mm (z, y, x), of one lung."""
    out = np.zeros(len(points), dtype=np.uint8)
    if "left oblique" in fissures:
        out[:] = np.where(fissures["left oblique"].above(points) < 0, 5, 4)
    elif fissures:
        upper = np.where(fissures["right horizontal"].above(points) < 0, 2, 1)
        out[:] = np.where(fissures["right oblique"].above(points) < 0, 3, upper)
    return out


Box = tuple[slice, slice, slice]


def _boxes(mask: Mask, coarse: Spacing, fine: Spacing, shape: tuple[int, ...]) -> tuple[Box, Box] | None:
    """Return the box of a lung on its own grid and on the finer one of the same corner; None without a lung."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        return None
    factors = [round(a / b) for a, b in zip(coarse, fine, strict=True)]
    k, j, i = (
        slice(s.start * f, min(s.stop * f, n)) for s, f, n in zip(found[0], factors, shape, strict=True)
    )
    return found[0], (k, j, i)


def _nearest(mask: Mask, spacing: Spacing, shape: tuple[int, ...], fine: Spacing) -> Mask:
    """Return a mask on a finer grid of the same corner."""
    index = [
        np.clip(((np.arange(n) + 0.5) * f / s).astype(int), 0, m - 1)
        for n, f, s, m in zip(shape, fine, spacing, mask.shape, strict=True)
    ]
    return np.asarray(mask[np.ix_(*index)])
