"""Lungs and airways of one phase -> how dense air and the heart measure: calibration and contrast medium."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..anatomy.morphology import bounding_box
from ..volume import Grid, Labels, Mask, Volume
from .findings import Finding, verdict_of

MIDDLE = 0.7  # share of the trachea's largest depth from which a voxel counts as its middle
#: Air in the trachea is denser than -1000 HU on every scanner, because the body scatters radiation into it (Judy et al.
#: 2012, Am J Respir Crit Care Med 185, A2037), while air beside the body measures -1000. Four clean CTs of three makers
#: measure -968 to -964; the upper limit leaves them 19 HU.
TRACHEA_HU = (-1020.0, -945.0)

#: What both phases' air and tissue may differ by alike, HU: warned of, failed. On a twin of a real CT (24.7 % abnormal)
#: one phase that is 5, 10 or 20 HU off moved the total by up to 3, 7 and 33 points.
OFFSET_HU = 10.0, 20.0


def trachea_air(phase: str, hu: float) -> Finding:
    """Judge the density of air as the scanner measures it, from `trachea_hu`; NaN where no trachea was found."""
    name, limit = f"trachea air, {phase}", f"warn < {TRACHEA_HU[0]:g} or > {TRACHEA_HU[1]:g} HU"
    if not np.isfinite(hu):
        return Finding(name, "warn", None, "[hnsf'U]", limit, f"no trachea was found on {phase}")
    off = not TRACHEA_HU[0] <= hu <= TRACHEA_HU[1]
    words = f"air in the trachea measures {hu:.0f} HU on {phase}"
    if off:
        words += ", usual are -1000 to -960: all densities may be off by as much"
    return Finding(name, verdict_of(False, off), hu, "[hnsf'U]", limit, words)


def mediastinal_density(phase: str, hu: float) -> Finding:
    """Judge the density of heart and great vessels, from `mediastinal_hu`; contrast makes it exceed 90 HU."""
    name, limit = f"mediastinal density, {phase}", "fail > 90 HU"
    if not np.isfinite(hu):
        return Finding(
            name, "pass", None, "[hnsf'U]", limit, f"no heart to measure between the lungs on {phase}"
        )
    words = f"tissue between the lungs measures {hu:.0f} HU on {phase}"
    if hu > 90:
        words += ": contrast medium was given, V/Q from density is not valid"
    return Finding(name, verdict_of(hu > 90, False), hu, "[hnsf'U]", limit, words)


def density_offset(trachea: tuple[float, float], mediastinum: tuple[float, float]) -> Finding:
    """Judge whether one phase as a whole is denser than the other, which would count as blood.

    Air in a trachea that is narrow on expiration measures denser, and so does a heart beside more fat: only what air
    and tissue share is the scanner's.

    Parameters
    ----------
    trachea, mediastinum : (float, float)
        `trachea_hu` and `mediastinal_hu` of expiration and of inspiration; NaN where there is nothing to measure.
    """
    limit = f"warn > {OFFSET_HU[0]:g}, fail > {OFFSET_HU[1]:g} HU in air and tissue alike"
    air, tissue = (exp - insp for exp, insp in (trachea, mediastinum))
    if not np.isfinite(air + tissue):
        words = "no trachea or no heart to compare the densities of both phases by"
        return Finding("density offset", "pass", None, "[hnsf'U]", limit, words)
    shared = min(air, tissue, key=abs) if air * tissue > 0 else 0.0
    words = f"air and tissue differ by {air:+.0f} and {tissue:+.0f} HU between expiration and inspiration"
    verdict = verdict_of(abs(shared) > OFFSET_HU[1], abs(shared) > OFFSET_HU[0])
    if verdict != "pass":
        words += (
            f": {'expiration' if shared > 0 else 'inspiration'} is denser throughout, which Q takes for blood"
        )
    return Finding("density offset", verdict, shared, "[hnsf'U]", limit, words)


def trachea_hu(airways: Mask, volume: Volume) -> float:
    """Return the median HU in the middle of the trachea, away from its wall's blur; NaN where none was found.

    Parameters
    ----------
    airways : (k, j, i) bool
        Air of the trachea and the main bronchi.
    volume : Volume
    """
    box = bounding_box(airways)
    if box is None:
        return float("nan")
    depth = ndimage.distance_transform_edt(np.pad(airways[box], 1), sampling=volume.grid.spacing)[
        1:-1, 1:-1, 1:-1
    ]
    return float(np.median(volume.array[box][depth >= MIDDLE * depth.max()]))


def mediastinal_hu(labels: Labels, volume: Volume) -> float:
    """Return the median HU of soft tissue (-50…400 HU) between the lungs; NaN where it is less than 50 mL."""
    values = np.asarray(volume.array, dtype=np.float32)[between_lungs(labels, volume.grid)]
    soft = values[(values > -50) & (values < 400)]
    return float(np.median(soft)) if soft.size * volume.grid.voxel_ml >= 50 else float("nan")


def between_lungs(labels: Labels, grid: Grid) -> Mask:
    """Return the voxels with the right lung on one side and the left on the other, (k, j, i) bool."""
    axis = int(np.argmax(np.abs(grid.affine[0, :3])))
    right, left = labels == 1, labels == 2

    def passed(mask: Mask, backwards: bool) -> Mask:
        mask = np.flip(mask, axis) if backwards else mask
        mask = np.logical_or.accumulate(mask, axis=axis)
        return np.flip(mask, axis) if backwards else mask

    patient_left_ascends = bool(grid.affine[0, axis] > 0)
    return passed(right, not patient_left_ascends) & passed(left, patient_left_ascends) & (labels == 0)
