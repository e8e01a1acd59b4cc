"""The colours of classes, lungs and maps, the same in every object, figure and page (sRGB, 0-255).

Classes use Okabe & Ito's qualitative set, which readers with any common colour vision deficiency can tell apart.
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

#: Orange and blue are the two kinds of mismatch, purple is both, green is normal.
CLASS_RGB: Mapping[VQClass, RGB] = {
    VQClass.NORMAL: (0, 158, 115),
    VQClass.DEAD_SPACE: (230, 159, 0),
    VQClass.SHUNT: (0, 114, 178),
    VQClass.MATCHED_DEFECT: (204, 121, 167),
}

#: `lungs.Lung` value (1 right, 2 left) -> its colour: greys, which do not tint the classes that lie on them.
LUNG_RGB: Mapping[int, RGB] = {1: (150, 150, 150), 2: (190, 190, 190)}

#: Words for legends.
CLASS_NAME: Mapping[VQClass, str] = {
    VQClass.NORMAL: "Normal",
    VQClass.DEAD_SPACE: "Dead space",
    VQClass.SHUNT: "Shunt",
    VQClass.MATCHED_DEFECT: "Matched defect",
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


def class_rgb(classes: Labels) -> Labels:
    """Return the colours of `VQClass` values; (..., 3) uint8, black where unclassified."""
    table = np.zeros((len(VQClass), 3), dtype=np.uint8)
    for c, rgb in CLASS_RGB.items():
        table[c] = rgb
    return np.asarray(table[classes])
