"""The table of measures -> what each region contributes to the whole: shares of volume, V and Q, and what stays.

A quantitative ventilation/perfusion scan is read by such shares. V and Q are per volume of lung: a region's part is its
mean times its classified volume, so that the parts of all zones add up to the whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..anatomy.regions import LOBES
from ..vq.ventilation import VENTILATIONS

#: What surgery removes as a whole.
RESECTIONS = ("right", "left", *LOBES)
#: Where the share that stays is described: postoperative FEV1 is the preoperative one times the share of ventilation or
#: perfusion of what is not removed, which predict it equally well (J Thorac Cardiovasc Surg 86:186).
RESECTION_SOURCE = "Bria 1983, PMID 6308357"


def share_measures(
    table: Mapping[str, Mapping[str, float]], region: str, ventilation: str = "jacobian"
) -> dict[str, float]:
    """Return the shares of one region, percent of both lungs; NaN where they are not known.

    Parameters
    ----------
    table : mapping of region to mapping of measure to float
        With ``volume_exp``, ``classified_volume``, ``mean_v`` and ``mean_q`` of the region and of ``"lungs"``.
    region : str
    ventilation : str
        How V was made; V per mass of lung adds up to no whole over volumes, and has no share.

    Examples
    --------
    >>> lungs = {"volume_exp": 3000.0, "classified_volume": 2000.0, "mean_v": 0.5, "mean_q": 0.04}
    >>> left = {"volume_exp": 1200.0, "classified_volume": 800.0, "mean_v": 0.25, "mean_q": 0.05}
    >>> found = share_measures({"lungs": lungs, "left": left}, "left")
    >>> {name: round(value, 1) for name, value in found.items()}
    {'share_volume': 40.0, 'share_v': 20.0, 'share_q': 50.0, 'remaining_v': 80.0, 'remaining_q': 50.0}
    """
    part, whole = table[region], table["lungs"]
    additive = VENTILATIONS[ventilation].unit == "1"
    share_v = _percent(_amount(part, "mean_v"), _amount(whole, "mean_v")) if additive else float("nan")
    share_q = _percent(_amount(part, "mean_q"), _amount(whole, "mean_q"))
    found = {
        "share_volume": _percent(part["volume_exp"], whole["volume_exp"]),
        "share_v": share_v,
        "share_q": share_q,
    }
    if region in RESECTIONS:
        found |= {"remaining_v": 100 - share_v, "remaining_q": 100 - share_q}
    return found


def _amount(row: Mapping[str, float], mean: str) -> float:
    """Return the sum of a map over a region's classified volume; 0 for a region without any."""
    return row[mean] * row["classified_volume"] if row["classified_volume"] else 0.0


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if np.isfinite(whole) and whole > 0 else float("nan")
