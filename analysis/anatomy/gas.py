"""Air inside the body -> the gas that is not lung: stomach, colon, oesophagus, hernia, pneumothorax.

Where a diaphragm is thin, gas below it and lung above it are one region at any threshold. Three things still differ:

* gas is as thin as the air in the trachea, and uniform; lung is denser, or grades into denser lung;
* a line as bright as tissue runs between gas and lung almost everywhere (`Gas.open` is small), while a bulla or an
  emphysematous region goes over into the lung behind it;
* bowel lies under the lungs or between them. A bulla as closed as that, at the apex or the side, stays lung.

Gas in the pleural space is a crescent around the lung; a bulla bulges into it (`Gas.solid`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from ..volume import Float, Labels, Mask
from .body import caged
from .morphology import Spacing, bounding_box, dilate, erode, flood, grow_box, opening, pieces

GAS_HU = -930.0  # mean over `MEAN_MM`; partial volume and a scanner's own offset are well within it
AIR_HU = -1000.0  # HU of air where no trachea is found
PURE_HU = 45.0  # largest difference to the trachea's air
MEAN_MM = 1.5
CORE_MM = 4.0  # radius of the ball that must fit into gas for it to be examined
MIN_ML = 1.0
TRACK_MM = 2.0
CAGED = 0.8  # share of the largest lung that the rib cage holds where it is seen; real ones: at least .95
SHELL_MM = (3.0, 6.0)
SOFT = 0.3  # least share of tissue around gas that is examined: up to .28 in emphysema, from .51 in bowel
AROUND_MM = 16.0
LUNG_ML = 50.0
OPEN_BELOW = 0.45  # .00-.37 in bowel under the lung, from .62 in bullae at the base
OPEN_BETWEEN = 0.25
MIDDLE_MM = 45.0
UNDER = 0.3  # share of the gas's columns with lung under it
CRESCENT = 0.75  # `Gas.solid` of gas in the pleural space: .18-.68; of bullae .88
CRESCENT_ML = 20.0


Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Gas:
    """Hold the features that tell one blob of gas from lung.

    Parameters
    ----------
    ml : float
        Volume up to its walls, mL.
    impure : float
        Median HU of the blob less that of the air in the trachea.
    soft : float
        Share of tissue in a shell around it.
    open : float
        Share of its surface that borders lung without a bright line between them.
    below : bool
        Whether it is nearer to the feet than most lung.
    under : float
        Share of its columns, along the body, with lung nearer to the feet.
    aside : float
        Distance (mm, left to right) from the middle between the lungs to its centre.
    solid : float
        Area over that of its convex outlines, in the plane in which this is least: 1 for a ball, about .5 for a
        crescent.
    """

    ml: float
    impure: float
    soft: float
    open: float
    below: bool
    under: float
    aside: float
    solid: float

    @property
    def bowel(self) -> bool:
        """Return whether the gas is in the stomach, the colon, the oesophagus or a hernia."""
        if self.impure > PURE_HU:
            return False
        below = self.below and self.under < UNDER and self.open < OPEN_BELOW
        return below or (self.aside < MIDDLE_MM and self.open < OPEN_BETWEEN)

    @property
    def pleural(self) -> bool:
        """Return whether the gas is a pneumothorax."""
        thin = self.ml >= CRESCENT_ML and self.solid < CRESCENT
        return thin and self.impure < PURE_HU / 2 and self.soft > 0.4 and self.open < OPEN_BELOW


def not_lung(air: Mask, hu: Float, airways: Mask, middle: float | None, spacing: Spacing) -> Mask:
    """Return the voxels of `air` that belong to the bowel or to a pneumothorax, (z, y, x) bool.

    Parameters
    ----------
    air : (z, y, x) bool
        Voxels in the body that are less dense than tissue, without the airways.
    hu : (z, y, x) float32
    airways : (z, y, x) bool
    middle : float or None
        Index along x of the body's midline, where it is known.
    spacing : (3,) float
        mm along z, y, x.
    """
    found = np.zeros(air.shape, dtype=np.bool_)
    mean = ndimage.gaussian_filter(hu, [MEAN_MM / s for s in spacing], truncate=2)
    pure = air & (mean < GAS_HU)
    seeds, candidates = _seeds(pure, air, spacing)
    if not candidates:
        return found
    lung = _lung(air, seeds, spacing)
    air_hu = _air_hu(hu, airways, spacing)
    for n, box, soft in candidates if lung.any() else ():
        region, open_ = _bounded(seeds[box], n, lung[box], air[box], hu[box])
        if not region.any():
            continue
        impure = float(np.median(hu[box][seeds[box] == n])) - air_hu
        place = _place(region, box, lung, middle, spacing)
        ml = region.sum() * float(np.prod(spacing)) / 1000
        gas = Gas(ml, impure, soft, open_, *place, _solid(region))
        if gas.bowel or gas.pleural:
            found |= _beyond(region, box, pure, air, lung)
    return found


def under_skin(air: Mask, hu: Float, spacing: Spacing) -> Mask:
    """Return the voxels of `air` outside the rib cage, in pieces that mostly lie there, (z, y, x) bool.

    A tube's track through the chest wall joins such air with the lung, so links thinner than `TRACK_MM` are cut.
    None where the ribs are not seen, as in a crop masked to a lung: where they do not hold the largest piece.
    """
    cage = caged(hu, spacing)
    labels, sizes = pieces(opening(air, TRACK_MM, spacing))
    within = np.bincount(labels[cage], minlength=len(sizes))
    if within[sizes.argmax()] < CAGED * sizes.max():
        return np.zeros(air.shape, dtype=np.bool_)
    stray = (2 * within < sizes)[labels] & (labels > 0)
    return np.asarray(dilate(stray, 2 * TRACK_MM, spacing) & air & ~cage)


def _seeds(pure: Mask, air: Mask, spacing: Spacing) -> tuple[Labels, list[tuple[int, Box, float]]]:
    """Number the pieces of pure gas that a ball fits into.

    For those with much tissue around them, also return number, box with surroundings and `Gas.soft`.
    """
    seeds, sizes = pieces(opening(pure, CORE_MM, spacing))
    boxes = ndimage.find_objects(seeds)
    found = []
    for n in np.flatnonzero(sizes * float(np.prod(spacing)) / 1000 >= MIN_ML):
        box = grow_box(boxes[n - 1], AROUND_MM, spacing, seeds.shape)
        own = seeds[box] == n
        shell = dilate(own, SHELL_MM[1], spacing) & ~dilate(own, SHELL_MM[0], spacing)
        soft = 1 - float(air[box][shell].mean()) if shell.any() else 0.0
        if soft >= SOFT:
            found.append((int(n), box, soft))
    return seeds, found


def _lung(air: Mask, seeds: Labels, spacing: Spacing) -> Mask:
    """Return what is lung beyond doubt: deep in large pieces of air, away from gas."""
    labels, sizes = pieces(erode(air & ~dilate(seeds > 0, SHELL_MM[1], spacing), MEAN_MM, spacing))
    return np.asarray((sizes * float(np.prod(spacing)) / 1000 >= LUNG_ML)[labels])


def _air_hu(hu: Float, airways: Mask, spacing: Spacing) -> float:
    """Return the median HU in the middle of the airways."""
    box = bounding_box(airways)
    if box is None:
        return AIR_HU
    depth = ndimage.distance_transform_edt(np.pad(airways[box], 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    return float(np.median(hu[box][depth >= 0.7 * depth.max()]))


def _beyond(region: Mask, box: Box, pure: Mask, air: Mask, lung: Mask) -> Mask:
    """Extend a blob beyond its box: the pure gas that is joined to it there, and its blurred rim."""
    whole = np.zeros(air.shape, dtype=np.bool_)
    whole[box] = region
    if not any(np.take(region, [0, -1], axis=axis).any() for axis in range(3)):
        return whole
    labels, sizes = pieces(pure & ~lung)
    joined = np.zeros(len(sizes), dtype=np.bool_)
    joined[labels[box][region]] = True
    joined[0] = False
    outside = ndimage.binary_dilation(joined[labels]) & air & ~lung
    outside[box] = False
    return whole | outside


def _bounded(seeds: Labels, n: int, lung: Mask, air: Mask, hu: Float) -> tuple[Mask, float]:
    """Return the blob up to its walls, by watershed against lung and other gas, and `Gas.open`."""
    markers = np.where(seeds == n, 1, np.where(seeds > 0, 3, np.where(lung, 2, 0))).astype(np.uint8)
    flooded = flood(markers, air, hu)
    region = air & (flooded == 1)
    faces = ndimage.generate_binary_structure(3, 1)
    border = ndimage.binary_dilation(region, faces) & ~region & ~(air & (flooded == 3))
    beside = ndimage.grey_dilation(np.where(region, hu, -3000), footprint=faces)
    limit = (float(np.median(hu[lung])) if lung.any() else -850.0) / 2 + float(hu[air].max()) / 2
    crossed = air & (np.maximum(hu, beside) < limit)
    return region, float(crossed[border].mean()) if border.any() else 1.0


def _place(
    region: Mask, box: Box, lung: Mask, middle: float | None, spacing: Spacing
) -> tuple[bool, float, float]:
    """Return `Gas.below`, `Gas.under` and `Gas.aside`."""
    heights = lung.sum(axis=(1, 2)).cumsum()
    centre = ndimage.center_of_mass(region)
    below = centre[0] + box[0].start < float(np.searchsorted(heights, heights[-1] / 2))
    columns = region.any(axis=0)
    floor = region.argmax(axis=0) + box[0].start
    lowest = np.where(lung.any(axis=0), lung.argmax(axis=0), lung.shape[0])[box[1:]]
    under = float((lowest < floor)[columns].mean())
    if middle is None:
        seen = np.flatnonzero(lung.any(axis=(0, 1)))
        middle = float(seen[0] + seen[-1]) / 2
    return bool(below), under, abs(centre[2] + box[2].start - middle) * spacing[2]


def _solid(region: Mask) -> float:
    """Return `Gas.solid`, the least of the three planes."""
    return min(_solid_along(np.moveaxis(region, axis, 0)) for axis in range(3))


def _solid_along(slices: Mask) -> float:
    area = hull = 0.0
    for piece in slices:
        points = np.argwhere(piece & ~ndimage.binary_erosion(piece))
        try:
            hull += float(ConvexHull(points).volume) if len(points) > 3 else 0.0
        except QhullError:  # all points lie on one line
            continue
        area += float(piece.sum()) - len(points) / 2
    return area / hull if hull else 1.0
