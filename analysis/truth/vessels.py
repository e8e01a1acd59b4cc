"""A CT and its lungs -> the density of the tissue between the vessels, and the share of every voxel that is vessel."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..anatomy.morphology import grow_box
from ..volume import Float, Labels, Volume
from ..vq.smoothing import masked_gaussian
from .breathing import PhaseName

BLOCK_MM = 8.0
MIN_SHARE = 0.1  # of a whole block: below, a block says nothing
PERCENTILE = 40.0  # of the voxels of a block; vessels make up less than half of it
BLOOD = np.float32(1.05)  # g/ml
SOLID = np.float32(1.05)  # g/ml: no lung is compressed beyond
MARGIN_HU = 100.0  # three times the noise of a real CT: what stands out by less is tissue or noise
DENSE_HU = (-300.0, -100.0)  # tissue that is as dense as a whole holds no air that could move


def between_vessels(volume: Volume, labels: Labels) -> Volume:
    """Return the density between the vessels of the lungs, HU float32, in blocks of about 8 mm around the lungs.

    Parameters
    ----------
    volume : Volume
        HU.
    labels : (k, j, i) uint8
        Lungs; at least one voxel.
    """
    inside = np.nonzero(labels)
    box = tuple(slice(int(n.min()), int(n.max()) + 1) for n in inside)
    k, j, i = grow_box((box[0], box[1], box[2]), BLOCK_MM, volume.grid.spacing, labels.shape)
    part, lungs = volume.crop((k, j, i)), labels[k, j, i] > 0
    factors = tuple(max(1, round(BLOCK_MM / s)) for s in part.grid.spacing)
    n = tuple(max(1, s // f) for s, f in zip(lungs.shape, factors, strict=True))
    cut = tuple(slice(0, a * f) for a, f in zip(n, factors, strict=True))
    hu = np.where(lungs[cut], np.asarray(part.array[cut], dtype=np.float32), np.float32(np.nan))
    blocks = hu.reshape(n[0], factors[0], n[1], factors[1], n[2], factors[2]).transpose(0, 2, 4, 1, 3, 5)
    ordered = np.sort(blocks.reshape(*n, -1), axis=-1)  # NaN last
    count = np.isfinite(ordered).sum(axis=-1)
    at = (PERCENTILE / 100 * np.maximum(count - 1, 0)).astype(int)
    values = np.take_along_axis(ordered, at[..., None], axis=-1)[..., 0]
    known = count > MIN_SHARE * np.max(count)
    grid = part.grid.coarsen((factors[0], factors[1], factors[2]))
    smoothed = masked_gaussian((np.where(known, values, np.float32(0)),), known, grid.spacing, BLOCK_MM)[0]
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return Volume(np.ascontiguousarray(smoothed[tuple(nearest)]), grid)


def vessel_share(hu: Float, between: Float) -> Float:
    """Return the share of blood in voxels, 0…1, beside the density between the vessels; both (n,), HU.

    What stands out by `MARGIN_HU` or less counts as none: finer vessels and noise cannot be told apart there. Where the
    tissue between vessels is solid itself (consolidation, a tumour), all of it counts.
    """
    low = between + np.float32(MARGIN_HU)
    share = np.clip((hu - low) / np.maximum(1000 * BLOOD - 1000 - low, MARGIN_HU), 0, 1)
    t = np.clip((between - DENSE_HU[0]) / (DENSE_HU[1] - DENSE_HU[0]), 0, 1)
    return np.asarray(np.maximum(share, t * t * (3 - 2 * t)), dtype=np.float32)


def made_by_share(blood: Float, rho: Float, jac: Float, m: Float, real: PhaseName) -> Float:
    """Return the made phase's density (g/ml) where a share of every voxel keeps its density and the rest is lung.

    Parameters
    ----------
    blood : (n,) float32
        Share of blood, 0…1.
    rho : (n,) float32
        Density of the real phase at the same tissue, g/ml.
    jac : (n,) float32
        Volume of inspiration over that of expiration.
    m : (n,) float32
        Change of mass of the tissue that breathes, g per ml of expiration.
    real : {"expiration", "inspiration"}
        The phase that is real.
    """
    vessel = np.minimum(blood * BLOOD, rho)
    rest, change = rho - vessel, m * (1 - blood)
    if real == "expiration":
        return np.asarray(vessel + (rest + change) / jac)
    return np.asarray(np.minimum(vessel + rest * jac - change, np.maximum(rho, SOLID)))
