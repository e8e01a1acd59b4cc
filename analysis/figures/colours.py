"""The colours of classes, lungs and maps, the same in every object, figure and page (sRGB, 0-255).

Classes use Okabe & Ito's qualitative set, which readers with any common colour vision deficiency can tell apart. They
and the maps are painted opaquely: what the legend shows is what the lung shows. Normal lung is not painted in pictures,
so that disease stands out; the segment of it that viewers draw has a quiet colour.
Maps use matplotlib's perceptually ordered colormaps: equal steps of the value look like equal steps of lightness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps

from ..volume import Float, Labels
from ..vq.classes import VQClass
from ..vq.ventilation import VENTILATIONS

RGB = tuple[int, int, int]

#: Orange and blue are the two kinds of mismatch, purple is both; a quiet grey green is normal.
CLASS_RGB: Mapping[VQClass, RGB] = {
    VQClass.NORMAL: (120, 160, 138),
    VQClass.DEAD_SPACE: (230, 159, 0),
    VQClass.SHUNT: (0, 114, 178),
    VQClass.MATCHED_DEFECT: (204, 121, 167),
}

#: The classes that pictures paint.
ABNORMAL = (VQClass.DEAD_SPACE, VQClass.SHUNT, VQClass.MATCHED_DEFECT)

#: `lungs.Lung` value (1 right, 2 left) -> its colour: greys, which do not tint the classes that lie on them.
LUNG_RGB: Mapping[int, RGB] = {1: (150, 150, 150), 2: (190, 190, 190)}

#: Words for legends.
CLASS_NAME: Mapping[VQClass, str] = {
    VQClass.NORMAL: "Normal",
    VQClass.DEAD_SPACE: "Dead space",
    VQClass.SHUNT: "Shunt",
    VQClass.MATCHED_DEFECT: "Matched defect",
}

#: What the word of an abnormal class rests on; ``{low}`` is the threshold, as "60 %".
CLASS_MEANS: Mapping[VQClass, str] = {
    VQClass.DEAD_SPACE: "dead-space-like: Q below {low}, V kept",
    VQClass.SHUNT: "shunt-like: V below {low}, Q kept",
    VQClass.MATCHED_DEFECT: "matched defect: V and Q below {low}",
}


@dataclass(frozen=True)
class Scale:
    """Hold how a map of `pipeline.Analysis.maps` is shown.

    Parameters
    ----------
    title : str
        Words for legends.
    unit : str
        As written in legends; "" for none.
    colormap : str
        Name of a perceptually ordered colormap of matplotlib.
    """

    title: str
    unit: str
    colormap: str


SCALES: Mapping[str, Scale] = {
    "V": Scale("Ventilation V", "ml/ml", "viridis"),
    "Q": Scale("Perfusion surrogate Q", "g/ml", "inferno"),
}


def unit_of(name: str, ventilation: str) -> str:
    """Return the unit of a map of `SCALES` as written in legends, where V is made by ``ventilation``."""
    made = VENTILATIONS[ventilation].unit
    return made if name == "V" and made != "1" else SCALES[name].unit


def top_of(values: Float) -> float:
    """Return the value at which a map's colours end: its 98th percentile, rounded to two digits."""
    top = float(np.nanpercentile(values, 98)) if np.isfinite(values).any() else 1.0
    return float(f"{top:.2g}") if top > 0 else 1.0


def map_rgb(values: Float, name: str, top: float) -> Labels:
    """Return the colours of a map from 0 to ``top``; (..., 3) uint8. What is not finite gets the colour of 0."""
    share = np.clip(np.nan_to_num(values / top, nan=0.0), 0.0, 1.0)
    table = (colormaps[SCALES[name].colormap](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return np.asarray(table[(share * 255).astype(np.uint8)])


def paint_classes(picture: Labels, classes: Labels) -> None:
    """Paint the abnormal classes into a picture, (rows, columns, 3); normal and unclassified lung stay as they are."""
    where = classes > VQClass.NORMAL
    picture[where] = class_rgb(classes[where])


def class_rgb(classes: Labels) -> Labels:
    """Return the colours of `VQClass` values; (..., 3) uint8, black where unclassified."""
    table = np.zeros((len(VQClass), 3), dtype=np.uint8)
    for c, rgb in CLASS_RGB.items():
        table[c] = rgb
    return np.asarray(table[classes])
