"""Lungs of two phases -> soft tissue between lung and ribs that only one phase shows: effusion or consolidation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..volume import Labels, Volume
from .findings import Finding, verdict_of

BONE_HU = 180
RIBS_MM = 14.0  # ribs are oblique: bone counts up to this far above and below
SOFT_HU = (-150, 130)
WALL_MM = 8.0  # thickness of the chest wall's own soft tissue between lung and bone
WARN_ML = 60.0  # a real pair without an effusion: 4 and 6 ml


@dataclass(frozen=True)
class Behind:
    """Hold what lies between the lungs and the bone straight behind them.

    Parameters
    ----------
    thick_mm : float
        Mean thickness of the soft tissue beyond 8 mm of chest wall.
    area_cm2 : float
        Of the lungs that have bone behind them, seen from behind.
    """

    thick_mm: float = 0.0
    area_cm2: float = 0.0


def effusion(insp: Behind, exp: Behind) -> Finding:
    """Judge what lies behind the lungs in only one of the phases, from `behind_lungs`.

    The chest wall is as thick on both phases, while the lungs in front of it grow: thicknesses are compared, not
    volumes, over the smaller of the two areas.
    """
    more = abs(insp.thick_mm - exp.thick_mm) * min(insp.area_cm2, exp.area_cm2) / 10
    name = "inspiration" if insp.thick_mm > exp.thick_mm else "expiration"
    words = (
        f"soft tissue behind the lungs is {insp.thick_mm:.1f} mm thick beyond the chest wall's on inspiration, "
        f"{exp.thick_mm:.1f} mm on expiration"
    )
    if more > WARN_ML:
        words += f": an effusion or consolidation of at least {more:.0f} ml on {name}; V and Q beside it are not valid"
    limit = f"warn where they differ by > {WARN_ML:g} ml"
    return Finding("effusion", verdict_of(False, more > WARN_ML), more, "ml", limit, words)


def behind_lungs(labels: Labels, volume: Volume) -> Behind:
    """Measure the soft tissue between lungs and the bone straight behind, less 8 mm of chest wall.

    This is a lower bound of an effusion in a supine patient: fluid with no lung in front of it is not counted.

    Parameters
    ----------
    labels : (k, j, i) uint8
        Lungs on the volume's grid.
    volume : Volume
        Voxels of about 2 mm.
    """
    axis = int(np.argmax(np.abs(volume.grid.affine[1, :3])))
    lung = np.moveaxis(labels > 0, axis, 0)
    hu = np.moveaxis(np.asarray(volume.array, dtype=np.float32), axis, 0)
    if volume.grid.affine[1, axis] < 0:
        lung, hu = lung[::-1], hu[::-1]
    others = [a for a in range(3) if a != axis]
    up = int(np.argmax(np.abs(volume.grid.affine[2, others])))
    reach = 2 * round(RIBS_MM / volume.grid.spacing[others[up]]) + 1
    bone = ndimage.maximum_filter1d((hu > BONE_HU).astype(np.uint8), reach, axis=1 + up) > 0
    behind = ~np.flip(np.logical_or.accumulate(np.flip(lung, 0), axis=0), 0) & lung.any(axis=0)
    end = behind & (bone | (hu < SOFT_HU[0]) | (hu > SOFT_HU[1]))
    first = np.argmax(end, axis=0)[None]
    at_bone = np.take_along_axis(end & bone, first, axis=0)[0]
    between = behind & (np.arange(len(hu))[:, None, None] < first)
    thick = np.where(at_bone, between.sum(axis=0) * volume.grid.spacing[axis] - WALL_MM, 0)
    pixel_cm2 = 10 * volume.grid.voxel_ml / volume.grid.spacing[axis]
    seen = int(at_bone.sum())
    return Behind(float(np.maximum(thick, 0).sum()) / max(seen, 1), seen * pixel_cm2)
