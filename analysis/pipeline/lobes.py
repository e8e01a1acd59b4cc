"""A mask of five lobes on either CT, or the CT itself -> the lobes of both phases, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..anatomy.regions import LOBES
from ..anatomy.sides import Lung
from ..errors import Rejected
from ..lobes.lobes import BORDERS, FoundLobes, find
from ..measures.findings import Finding
from ..volume import Float, Grid, Labels, Volume
from .masks import nearest
from .phase import Phase

#: Least Dice coefficient of a lobe mask with the lungs that it was drawn in.
COVER = 0.8
#: Least share of a fissure that is seen (`Fissure.firm`) for the lobes beside it to be reported.
SURE = 0.25


@dataclass(frozen=True, eq=False)
class Lobes:
    """Hold the lobes of one phase.

    Attributes
    ----------
    phase : {"inspiration", "expiration"}
        Whose.
    labels : (k, j, i) uint8
        1 + the place in `regions.LOBES`, on that phase's working grid; 0 none.
    """

    phase: Literal["inspiration", "expiration"]
    labels: Labels

    def carried(self, insp: Phase, exp: Phase, displacement: Float, inverse: Float) -> tuple[Labels, Labels]:
        """Return the lobes of both phases; ``displacement`` and ``inverse`` lead from one to the other."""
        if self.phase == "expiration":
            return _carry(self.labels, exp.work.grid, insp, inverse), self.labels
        return self.labels, _carry(self.labels, insp.work.grid, exp, displacement)


def find_lobes(mask: Volume, insp: Phase, exp: Phase) -> Lobes:
    """Find out which phase a mask was drawn on, and which label is which lobe.

    The phase is the one whose lungs the mask covers best. The lobes are told by where they lie, for every program
    numbers them its own way: in the left lung the higher one is the upper lobe; in the right lung the highest is the
    upper lobe, and of the other two the one further in front is the middle lobe.

    Parameters
    ----------
    mask : Volume
        int16 labels, 0 outside the lobes; any grid.
    insp, exp : Phase

    Raises
    ------
    Rejected
        Where the mask covers the lungs of neither phase, or does not hold three lobes right and two left.
    """
    on = {
        "inspiration": (insp, nearest(mask, insp.work.grid)),
        "expiration": (exp, nearest(mask, exp.work.grid)),
    }
    cover = {name: _dice(labels, phase.lungs) for name, (phase, labels) in on.items()}
    found: Literal["inspiration", "expiration"] = (
        "inspiration" if cover["inspiration"] >= cover["expiration"] else "expiration"
    )
    if cover[found] < COVER:
        raise Rejected(
            f"the lobe mask fits the lungs of neither phase (Dice {cover['inspiration']:.2f} with inspiration,"
            f" {cover['expiration']:.2f} with expiration; {COVER:.2f} is needed)"
        )
    phase, labels = on[found]
    return Lobes(found, name_lobes(labels, phase.lungs, phase.work.grid))


def own_lobes(insp: Phase) -> tuple[Lobes, Finding]:
    """Find the lobes of the inspiratory CT, on which fissures are seen best, without anybody's mask.

    Returns
    -------
    Lobes
        Without the lobes beside a fissure that is less firm than `SURE`: nobody could say where they end.
    Finding
        How much of every fissure is seen.
    """
    found = find(insp.ct, insp.lungs, insp.work.grid)
    labels = np.where(np.isin(found.labels, _sure(found)), found.labels, 0).astype(np.uint8)
    seen = {name: max(fissure.firm, 0.0) for name, fissure in found.fissures.items()}
    least = min(seen.values(), default=0.0)
    said = ", ".join(f"{name} {share:.0%}" for name, share in seen.items()) or "none"
    left_out = [name.replace("_", " ") for n, name in enumerate(LOBES, 1) if not (labels == n).any()]
    sentence = f"Lobes found from the fissures on inspiration, of which this share is seen: {said}"
    sentence += f"; not sure and left out: {', '.join(left_out)}." if left_out else "."
    verdict: Literal["pass", "warn"] = "warn" if left_out else "pass"
    return Lobes("inspiration", labels), Finding(
        "lobes", verdict, round(100 * least, 1), "%", f"warn < {SURE:.0%} of a fissure seen", sentence
    )


def _sure(found: FoundLobes) -> list[int]:
    """Return the labels of lobes all of whose fissures are seen well enough."""
    return [
        label
        for label, fissures in BORDERS.items()
        if all(name in found.fissures and found.fissures[name].firm >= SURE for name in fissures)
    ]


def name_lobes(labels: NDArray[np.uint16], lungs: Labels, grid: Grid) -> Labels:
    """Renumber labels as 1 + the place in `regions.LOBES`, from where they lie; see `find_lobes`.

    Parameters
    ----------
    labels, lungs : (k, j, i)
        Any five labels; 1 right, 2 left.
    grid : Grid
    """
    centres: dict[int, dict[int, np.ndarray]] = {Lung.RIGHT: {}, Lung.LEFT: {}}
    for label in np.unique(labels[labels > 0]).tolist():
        inside = labels == label
        sides = [int((inside & (lungs == side)).sum()) for side in centres]
        if max(sides) < 0.5 * inside.sum():
            continue  # not a lobe, but perhaps the trachea
        side = (Lung.RIGHT, Lung.LEFT)[int(np.argmax(sides))]
        centres[side][label] = grid.points(np.argwhere(inside).mean(axis=0)[None])[0]
    right, left = centres[Lung.RIGHT], centres[Lung.LEFT]
    if (len(right), len(left)) != (3, 2):
        raise Rejected(f"the lobe mask holds {len(right)} lobes right and {len(left)} left, not 3 and 2")
    upper, *others = sorted(right, key=lambda n: -right[n][2])
    middle, lower = sorted(others, key=lambda n: right[n][1])
    order = (upper, middle, lower, *sorted(left, key=lambda n: -left[n][2]))
    out = np.zeros(labels.shape, dtype=np.uint8)
    for number, (label, name) in enumerate(zip(order, LOBES, strict=True), 1):
        side = Lung.RIGHT if name.startswith("right") else Lung.LEFT
        out[(labels == label) & (lungs == side)] = number
    return out


def _carry(labels: Labels, grid: Grid, to: Phase, displacement: Float) -> Labels:
    """Carry labels on ``grid`` to the lung voxels of another phase, from which ``displacement`` leads back."""
    inside = to.lungs > 0
    points = to.work.grid.centres()[inside] + displacement[inside]
    index = np.rint(grid.indices(points.astype(np.float64))).astype(np.intp)
    index = np.clip(index, 0, np.array(grid.shape) - 1)
    out = np.zeros(to.lungs.shape, dtype=np.uint8)
    out[inside] = labels[tuple(index.T)]
    return out


def _dice(labels: NDArray[np.uint16], lungs: Labels) -> float:
    a, b = labels > 0, lungs > 0
    return 2 * float((a & b).sum()) / max(float(a.sum() + b.sum()), 1.0)
