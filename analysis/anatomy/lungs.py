"""Volume -> right and left lung, and the trachea with the main bronchi.

Everything is done on the axes nearest to the patient's (z up, y back, x left), so that the way a volume was scanned or
stored does not matter: prone, feet first, descending and coronal series give the same labels.

1. body, and the air inside it: not the table, not the room, not padding;
2. lung density below a threshold halfway between the patient's own lung and soft tissue (Hu 2001);
3. trachea and main bronchi, grown from the trachea and taken out (`analysis.anatomy.airways`);
4. gas in bowel, in the pleural space and under the skin taken out, also where it touches the lung (`gas`);
5. regions large enough, not below the lungs nor far above them; where the lungs touch, the thinnest place between them
   is found by erosion and the border follows the bright line between them (`sides`);
6. every lung closed, so that its vessels, its fissures and disease at the pleura belong to it (`restore`);
7. its surface moved to where density is halfway between the lung behind it and soft tissue (`pleura`).

References: Hu, Hoffman, Reinhardt 2001, doi:10.1109/42.929615; van Rikxoort et al. 2009, doi:10.1118/1.3147146.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..errors import Rejected
from ..volume import Float, Labels, Mask, Volume
from .airways import main_airways
from .axes import PatientAxes
from .body import GAS_HU, PADDING_HU, inside, midline, soft_tissue
from .gas import not_lung, under_skin
from .morphology import Spacing, bounding_box, dilate, opening, pieces
from .pleura import fit_pleura
from .restore import restore
from .sides import MIN_LUNG_ML, Lung, sides

WORK_MM = 2.0
MIN_PART_ML = 30.0
ABOVE_MM = 20.0
MIN_TOTAL_ML = 400.0
DENSE_HU = -220
DENSE_MM = 3.0
THICK_MM = 4.0
WALL_MM = 2.5


@dataclass(frozen=True, eq=False)
class LungSegmentation:
    """Hold what `segment` finds, on the grid of its volume.

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
    """Segment the lungs, left and right apart, without airways and hilar vessels.

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
    axes = PatientAxes.of(coarse.grid)
    labels, airways = _segment(axes.to_patient(np.asarray(coarse.array)), axes.spacing)
    factors = [round(a / b) for a, b in zip(coarse.grid.spacing, volume.grid.spacing, strict=True)]
    fine = [_repeat(axes.from_patient(a), factors, volume.grid.shape) for a in (labels, airways)]
    return LungSegmentation(fine[0].astype(np.uint8), fine[1].astype(np.bool_))


def _repeat(array: np.ndarray, factors: list[int], shape: tuple[int, int, int]) -> np.ndarray:
    for axis, factor in enumerate(factors):
        array = np.repeat(array, factor, axis=axis)
    rest = [(0, n - m) for n, m in zip(shape, array.shape, strict=True)]
    return np.ascontiguousarray(np.pad(array, rest))


def _segment(hu: Float, spacing: Spacing) -> tuple[Labels, Mask]:
    """Return labels and airways of HU on (z up, y back, x left)."""
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
    """Do the work of `_segment`, in the box of what is inside the body."""
    ml = float(np.prod(spacing)) / 1000
    threshold = _threshold(hu, indoors)
    smooth = ndimage.gaussian_filter(hu, 0.6)
    smooth[~indoors] = 0
    airways = main_airways(smooth, indoors, spacing)
    air = indoors & (hu < threshold) & ~dilate(airways, WALL_MM, spacing)
    air |= _dense(hu, indoors & ~dilate(airways, WALL_MM, spacing), air, spacing)
    air_hu = float(np.median(hu[airways])) if airways.any() else -1000.0
    gas = not_lung(air, hu, airways, middle, spacing)
    gas |= under_skin(air & ~gas, hu, spacing)
    labels = sides(_parts(air & ~gas, hu, air_hu, spacing), spacing, smooth, middle)
    barred = dilate(airways, WALL_MM, spacing) | gas
    for lung in (Lung.RIGHT, Lung.LEFT):
        restore(labels, lung, hu, airways, barred, spacing)
    labels[airways] = Lung.NONE
    fit_pleura(labels, hu, barred | ~indoors, spacing)
    total = float((labels > 0).sum()) * ml
    if total < MIN_TOTAL_ML:
        raise Rejected(
            f"no lungs found: what looks like lung measures {total:.0f} mL, less than {MIN_TOTAL_ML:.0f} mL"
        )
    return labels, airways


def _threshold(hu: Float, indoors: Mask) -> float:
    """Return the threshold halfway between the means of lung and of soft tissue (Hu 2001), HU."""
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
    """Return thick regions beside `air`, denser but not soft tissue: dependent lung on expiration."""
    share = ndimage.gaussian_filter(
        (hu < DENSE_HU).astype(np.float32), [DENSE_MM / s for s in spacing], truncate=2
    )
    solid = dilate(opening(air, THICK_MM, spacing), WALL_MM, spacing)
    return _thick(where & ~solid & (share > 0.5), THICK_MM, spacing)


def _thick(mask: Mask, mm: float, spacing: Spacing) -> Mask:
    """Return the part of `mask` within `mm` of a place where a ball of radius `mm` fits."""
    return np.asarray(dilate(opening(mask, mm, spacing), mm, spacing) & mask)


def _parts(air: Mask, hu: Float, air_hu: float, spacing: Spacing) -> Labels:
    """Number the connected pieces of lung, largest first, from 1; bowel gas and crumbs are left out."""
    ml = float(np.prod(spacing)) / 1000
    labels, sizes = pieces(air)
    boxes = ndimage.find_objects(labels)
    kept: list[_Piece] = []
    for n in [int(n) for n in np.argsort(-sizes)[:20] if sizes[n] * ml >= MIN_PART_ML]:
        box = boxes[n - 1]
        values = hu[box][labels[box] == n]
        span = (box[0].start * spacing[0], box[0].stop * spacing[0])
        piece = _Piece(n, sizes[n] * ml, float(np.median(values)), span)
        if piece.lung_beside(kept, air_hu):
            kept.append(piece)
    if not kept or kept[0].ml < MIN_LUNG_ML:
        raise Rejected(
            f"no lungs found: the largest region of lung density inside the body has "
            f"{sum(p.ml for p in kept[:1]):.0f} mL; at least {MIN_LUNG_ML:.0f} mL are expected"
        )
    table = np.zeros(len(sizes), dtype=np.uint8)
    table[[p.number for p in kept]] = np.arange(1, len(kept) + 1)
    return np.asarray(table[labels])


@dataclass(frozen=True)
class _Piece:
    """Hold one connected piece of air: its volume, its median density and its extent upwards (mm)."""

    number: int
    ml: float
    hu: float
    span: tuple[float, float]

    def lung_beside(self, kept: list[_Piece], air_hu: float) -> bool:
        """Return whether the piece is lung, given the larger pieces that are.

        Nothing lies below the lungs or far above them. Gas is thinner than any lung, or, where the trachea tells what
        this scanner makes of air, nearer to that than to the largest piece; in the upper half that may be a bulla. A
        small piece must be about as dense as the largest.
        """
        if not kept:
            return self.hu >= GAS_HU
        large = [p.span for p in kept if p.ml >= MIN_LUNG_ML]
        low, high = min((a for a, _ in large), default=0.0), max((b for _, b in large), default=np.inf)
        centre = sum(self.span) / 2
        if not low <= centre <= high + ABOVE_MM:
            return False
        lung_hu = kept[0].hu
        thin = lung_hu - air_hu > 60 and self.hu < (lung_hu + air_hu) / 2
        if thin or self.hu < GAS_HU:
            return self.ml < MIN_LUNG_ML and centre > (low + high) / 2
        return self.ml >= MIN_LUNG_ML or abs(self.hu - lung_hu) <= 120
