"""Volume -> right and left lung, and the trachea with the main bronchi.

Everything is done on the axes nearest to the patient's (z up, y back, x left), so that the way a volume was scanned or
stored does not matter: prone, feet first, descending and coronal series give the same labels.

1. body, and the air inside it: not the table, not the room, not padding;
2. lung density below a threshold halfway between the patient's own lung and soft tissue (Hu 2001);
3. trachea and main bronchi, grown from the trachea and taken out (`analysis.anatomy.airways`);
4. regions large enough and too dense for bowel gas; where the lungs touch, the thinnest place between them is found by
   erosion and the border follows the bright line between them (watershed);
5. every lung closed, so that its vessels, its fissures and disease at the pleura belong to it;
6. its surface moved to where density is halfway between the lung behind it and soft tissue (`pleura`).

References: Hu, Hoffman, Reinhardt 2001, doi:10.1109/42.929615; van Rikxoort et al. 2009, doi:10.1118/1.3147146.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from itertools import permutations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import Rejected
from ..volume import Float, Grid, Labels, Mask, Volume
from .airways import main_airways
from .body import GAS_HU, PADDING_HU, inside, midline, soft_tissue
from .morphology import (
    Spacing,
    bounding_box,
    closing,
    dilate,
    erode,
    fill_holes,
    fill_slice_holes,
    grow_box,
    opening,
    pieces,
)
from .pleura import fit_pleura

WORK_MM = 2.0
MIN_PART_ML = 30.0
MIN_LUNG_ML = 150.0
MIN_TOTAL_ML = 400.0
CLOSE_MM = 8.0
CLOSE_HILUM_MM = 4.0
DENT_MM = 16.0
DENSE_HU = -220
DENSE_MM = 3.0
THICK_MM = 4.0
HILUM_MM = 18.0
WALL_MM = 2.5
OPEN_MM = 2.0
HOLE_MM2 = 100.0
BONE_HU = 200
APART_MM = 60.0  # between the centres of two lungs, left to right
SPLIT_MM = (2.0, 4.0, 6.0, 8.0, 10.0, 13.0, 16.0)


class Lung(IntEnum):
    """Labels of the lungs."""

    NONE = 0
    RIGHT = 1
    LEFT = 2


@dataclass(frozen=True, eq=False)
class LungSegmentation:
    """What `segment` finds, on the grid of its volume.

    Attributes
    ----------
    labels : (k, j, i) uint8
        Values of `Lung`.
    airways : (k, j, i) bool
        Air in the trachea and the main bronchi; empty where no trachea is seen.
    """

    labels: Labels
    airways: Mask


def segment(volume: Volume) -> LungSegmentation:
    """Lungs, left and right apart, without airways and hilar vessels.

    Parameters
    ----------
    volume : Volume
        HU, any orientation. Axes finer than 2 mm are averaged in whole voxels first.

    Returns
    -------
    LungSegmentation
        A single lung gets one label: by the midline where the whole body is seen, else by its shape (`_side`).

    Raises
    ------
    Rejected
        Where there are no lungs, or implausibly small ones.

    References
    ----------
    Hu et al. 2001, doi:10.1109/42.929615; van Rikxoort et al. 2009, doi:10.1118/1.3147146.
    """
    coarse = volume.coarsen(WORK_MM)
    axes = _Axes.of(coarse.grid)
    labels, airways = _segment(axes.to_patient(np.asarray(coarse.array)), axes.spacing)
    factors = [round(a / b) for a, b in zip(coarse.grid.spacing, volume.grid.spacing, strict=True)]
    fine = [_repeat(axes.from_patient(a), factors, volume.grid.shape) for a in (labels, airways)]
    return LungSegmentation(fine[0].astype(np.uint8), fine[1].astype(np.bool_))


@dataclass(frozen=True)
class _Axes:
    """The array axes nearest to the patient's z, y, x, which of them run backwards, and their spacing in mm."""

    order: tuple[int, int, int]
    flips: tuple[slice, slice, slice]
    spacing: tuple[float, float, float]

    @classmethod
    def of(cls, grid: Grid) -> _Axes:
        cosines = grid.directions[::-1]  # rows z, y, x; columns k, j, i
        z, y, x = max(permutations(range(3)), key=lambda p: sum(abs(cosines[n, a]) for n, a in enumerate(p)))
        flips = [slice(None, None, 1 if cosines[n, a] > 0 else -1) for n, a in enumerate((z, y, x))]
        s = grid.spacing
        return cls((z, y, x), (flips[0], flips[1], flips[2]), (s[z], s[y], s[x]))

    def to_patient(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.transpose(array, self.order)[self.flips])

    def from_patient(self, array: np.ndarray) -> np.ndarray:
        return np.transpose(array[self.flips], np.argsort(self.order))


def _repeat(array: np.ndarray, factors: list[int], shape: tuple[int, int, int]) -> np.ndarray:
    for axis, factor in enumerate(factors):
        array = np.repeat(array, factor, axis=axis)
    rest = [(0, n - m) for n, m in zip(shape, array.shape, strict=True)]
    return np.ascontiguousarray(np.pad(array, rest))


def _segment(hu: Float, spacing: Spacing) -> tuple[Labels, Mask]:
    """Labels and airways of HU on (z up, y back, x left)."""
    labels, airways = np.zeros(hu.shape, dtype=np.uint8), np.zeros(hu.shape, dtype=np.bool_)
    hu = np.clip(hu, PADDING_HU - 1, 3000).astype(np.float32)
    body = soft_tissue(hu)
    indoors = inside(hu, body)
    box = bounding_box(indoors)
    if box is None:
        raise Rejected("no lungs found: the volume shows no body")
    middle = midline(body)
    if middle is not None:
        middle -= box[2].start
    labels[box], airways[box] = _within(hu[box], middle, indoors[box], spacing)
    return labels, airways


def _within(hu: Float, middle: float | None, indoors: Mask, spacing: Spacing) -> tuple[Labels, Mask]:
    """As `_segment`, in the box of what is inside the body."""
    ml = float(np.prod(spacing)) / 1000
    threshold = _threshold(hu, indoors)
    smooth = ndimage.gaussian_filter(hu, 0.6)
    smooth[~indoors] = 0
    airways = main_airways(smooth, indoors, spacing)
    air = indoors & (hu < threshold) & ~dilate(airways, WALL_MM, spacing)
    air |= _dense(hu, indoors & ~dilate(airways, WALL_MM, spacing), air, spacing)
    air_hu = float(np.median(hu[airways])) if airways.any() else -1000.0
    labels = _sides(_parts(air, hu, air_hu, ml), spacing, smooth, middle)
    for lung in (Lung.RIGHT, Lung.LEFT):
        _restore(labels, lung, hu, airways, spacing)
    labels[airways] = Lung.NONE
    fit_pleura(labels, hu, dilate(airways, WALL_MM, spacing) | ~indoors, spacing)
    total = float((labels > 0).sum()) * ml
    if total < MIN_TOTAL_ML:
        raise Rejected(
            f"no lungs found: what looks like lung measures {total:.0f} mL, less than {MIN_TOTAL_ML:.0f} mL"
        )
    return labels, airways


def _threshold(hu: Float, indoors: Mask) -> float:
    """Halfway between the means of lung and of soft tissue (Hu 2001), HU."""
    values = hu[indoors]
    values = values[(values > GAS_HU) & (values < 200)]
    threshold = -400.0
    for _ in range(20):
        lung, tissue = values[values < threshold], values[values > max(threshold, -200.0)]
        if not lung.size:
            raise Rejected("no lungs found: no voxel inside the body has the density of lung")
        new = (float(lung.mean()) + (float(tissue.mean()) if tissue.size else 30.0)) / 2
        if abs(new - threshold) < 1:
            break
        threshold = new
    return float(np.clip(threshold, -500, -250))


def _dense(hu: Float, where: Mask, air: Mask, spacing: Spacing) -> Mask:
    """Thick regions beside `air` that are denser still but not soft tissue: dependent lung on expiration."""
    share = ndimage.gaussian_filter(
        (hu < DENSE_HU).astype(np.float32), [DENSE_MM / s for s in spacing], truncate=2
    )
    solid = dilate(opening(air, THICK_MM, spacing), WALL_MM, spacing)
    return _thick(where & ~solid & (share > 0.5), THICK_MM, spacing)


def _thick(mask: Mask, mm: float, spacing: Spacing) -> Mask:
    """What of `mask` lies within `mm` of a place where a ball of radius `mm` fits."""
    return np.asarray(dilate(opening(mask, mm, spacing), mm, spacing) & mask)


def _parts(air: Mask, hu: Float, air_hu: float, ml: float) -> Labels:
    """Connected pieces of lung, largest first, 1…; bowel gas and crumbs left out.

    Gas is thinner than any lung, or, where the trachea tells what this scanner makes of air, nearer to that than to the
    largest piece. A small piece must be about as dense as the largest.
    """
    labels, sizes = pieces(air)
    boxes = ndimage.find_objects(labels)
    kept: list[int] = []
    lung_hu = np.nan
    for n in [int(n) for n in np.argsort(-sizes)[:20] if sizes[n] * ml >= MIN_PART_ML]:
        values = hu[boxes[n - 1]][labels[boxes[n - 1]] == n]
        median = float(np.median(values))
        if kept and lung_hu - air_hu > 60 and median < (lung_hu + air_hu) / 2:
            continue
        if kept and sizes[n] * ml < MIN_LUNG_ML and abs(median - lung_hu) > 120:
            continue
        if median >= GAS_HU:
            lung_hu = lung_hu if kept else median
            kept.append(n)
    if not kept or sizes[kept[0]] * ml < MIN_LUNG_ML:
        raise Rejected(
            f"no lungs found: the largest region of lung density inside the body has "
            f"{float(sizes[kept[:1]].sum()) * ml:.0f} mL; at least {MIN_LUNG_ML:.0f} mL are expected"
        )
    table = np.zeros(len(sizes), dtype=np.uint8)
    table[kept] = np.arange(1, len(kept) + 1)
    return np.asarray(table[labels])


def _sides(parts: Labels, spacing: Spacing, hu: Float, middle: float | None) -> Labels:
    """Right and left from the pieces of lung: 0, 1, 2."""
    ml = float(np.prod(spacing)) / 1000
    sizes = np.bincount(parts.ravel()) * ml
    if len(sizes) < 3 or sizes[2] < 0.5 * sizes[1]:
        _split(parts, hu, spacing)
        sizes = np.bincount(parts.ravel()) * ml
    numbers = np.arange(1, len(sizes))
    x = np.array(ndimage.center_of_mass(parts > 0, parts, numbers))[:, 2] * spacing[2]
    main = int(np.argmax(sizes[1:]))
    others = [
        n for n in np.argsort(-sizes[1:]) if sizes[1:][n] >= MIN_LUNG_ML and abs(x[n] - x[main]) >= APART_MM
    ]
    if others:
        side = np.where(x < (x[main] + x[others[0]]) / 2, Lung.RIGHT, Lung.LEFT)
    else:
        side = np.full(len(x), _side(parts == main + 1, spacing, middle))
    table = np.concatenate([[Lung.NONE], side]).astype(np.uint8)
    return np.asarray(table[parts])


def _split(parts: Labels, hu: Float, spacing: Spacing) -> None:
    """Part 1 in two, in place, where erosion finds two lungs side by side in it."""
    box = bounding_box(parts == 1)
    if box is None:
        return
    part = parts[box] == 1
    for mm in SPLIT_MM:
        labels, sizes = pieces(erode(part, mm, spacing))
        two = np.argsort(-sizes)[:2]
        if len(sizes) < 3 or sizes[two[1]] < 0.2 * sizes.sum():
            continue
        x = np.array(ndimage.center_of_mass(labels > 0, labels, two))[:, 2] * spacing[2]
        if abs(x[0] - x[1]) < APART_MM:
            continue
        markers = np.zeros(part.shape, dtype=np.uint8)
        markers[labels == two[0]], markers[labels == two[1]] = 1, 2
        flooded = _flood(markers, part, hu[box])
        parts[box][part & (flooded == 2)] = int(parts.max()) + 1
        return


def _flood(markers: Labels, part: Mask, hu: Float) -> Labels:
    """Watershed of HU from the markers inside `part`: lungs meet on the bright line between them."""
    relief = np.where(part, ndimage.gaussian_filter(hu, 0.7), 1000).astype(np.int16)
    image = sitk.MorphologicalWatershedFromMarkers(
        sitk.GetImageFromArray(relief),
        sitk.GetImageFromArray(markers),
        markWatershedLine=False,
        fullyConnected=False,
    )
    return np.asarray(sitk.GetArrayFromImage(image))


def _side(lung: Mask, spacing: Spacing, middle: float | None) -> Lung:
    """Which lung a single lung is.

    Where the body is seen from flank to flank, by the lung's place against its midline. In a crop, by its shape: the
    heart, the great vessels and the spine dent a lung on its inner side, the chest wall bulges it on the outer one, so
    the lung's convex outline in each axial slice holds more that is not lung on the side of the midline.
    """
    x = float(np.mean(np.nonzero(lung)[2]))
    if middle is not None and abs(x - middle) * spacing[2] > 10:
        return Lung.RIGHT if x < middle else Lung.LEFT
    box = bounding_box(lung)
    assert box is not None
    lung = lung[box]
    spans = np.logical_or.accumulate(lung, axis=1) & np.flip(
        np.logical_or.accumulate(np.flip(lung, 1), axis=1), 1
    )
    dents = np.nonzero(spans & ~lung)[2]
    inner = float(np.mean(dents)) if dents.size else 0.0
    return Lung.RIGHT if inner > float(np.mean(np.nonzero(lung)[2])) else Lung.LEFT


def _restore(labels: Labels, lung: Lung, hu: Float, airways: Mask, spacing: Spacing) -> None:
    """Close one lung in place: vessels, fissures, nodules and consolidation at the pleura; little at the hilum."""
    box = bounding_box(labels == lung)
    if box is None:
        return
    box = grow_box(box, DENT_MM + 4, spacing, labels.shape)
    own, taken, hu, airways = labels[box] == lung, labels[box] > 0, hu[box], airways[box]
    smooth = fill_slice_holes(_largest(opening(own, OPEN_MM, spacing)), HOLE_MM2, spacing)
    near_hilum = dilate(airways, HILUM_MM, spacing)
    gentle, strong = closing(smooth, CLOSE_HILUM_MM, spacing), closing(smooth, CLOSE_MM, spacing)
    closed = np.where(near_hilum, gentle, strong) | _dents(smooth, lung, spacing)
    closed &= hu < BONE_HU
    closed = ndimage.gaussian_filter(fill_holes(closed).astype(np.float32), [1.5 / s for s in spacing]) > 0.5
    closed |= own & dilate(closed, WALL_MM, spacing)  # smoothing has cut the rim: lung density decides there
    closed &= ~dilate(airways, WALL_MM, spacing)
    labels[box][own] = Lung.NONE
    labels[box][closed & ~(taken & ~own) & (hu > PADDING_HU)] = lung


def _dents(smooth: Mask, lung: Lung, spacing: Spacing) -> Mask:
    """Deeper dents with lung on their inner side: masses and consolidation at the chest wall, not the mediastinum."""
    inwards = slice(None, None, -1 if lung == Lung.RIGHT else 1)
    outer = np.logical_or.accumulate(smooth[:, :, inwards], axis=2)[:, :, inwards]
    return np.asarray(closing(smooth, DENT_MM, spacing) & outer)


def _largest(mask: Mask) -> Mask:
    """The pieces of a lung that are not crumbs: at least 2 % of it."""
    labels, sizes = pieces(mask)
    return np.asarray((sizes >= 0.02 * sizes.sum())[labels] & mask)
