"""How V and Q are shown: on one scale for every patient and date, on an absolute one, or on the patient's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..parameters import PictureStyle
from ..pipeline.pipeline import Analysis
from .colours import top_of, unit_of


@dataclass(frozen=True)
class Shown:
    """Hold how a map becomes colours: ``value / by``, from 0 to ``top``.

    Parameters
    ----------
    by, top : float
    unit : str
        Of ``value / by``, as written in legends; "" for none.
    words : str
        Which scale this is, for legends.
    """

    by: float
    top: float
    unit: str
    words: str


def shown(analysis: Analysis, layer: str, style: PictureStyle) -> Shown:
    """Return the scale of a map of `colours.SCALES` in the pictures of a result.

    A map whose mean is not more than 0 cannot be divided by it: it gets the patient's own scale, and says so.
    """
    values = analysis.maps[layer]
    unit = unit_of(layer, analysis.parameters.ventilation)
    finite = values[np.isfinite(values)]
    mean = float(finite.mean(dtype=np.float64)) if finite.size else 0.0
    if style.scale == "mean" and mean > 0:
        words = f"fixed scale: 0 to {style.top:g} times the mean of both lungs ({mean:.2g} {unit})"
        return Shown(mean, style.top, "x mean", words)
    if style.scale == "absolute":
        top = {"V": style.top_v, "Q": style.top_q}[layer]
        return Shown(1.0, top, unit, f"fixed scale: 0 to {top:g} {unit}")
    words = f"scale of this patient (98th percentile), in {unit}: not comparable"
    return Shown(1.0, top_of(values), unit, words)
