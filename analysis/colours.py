"""The colours of classes and lungs, one set for every object and picture.

Okabe & Ito's colour-blind-safe qualitative palette (Wong 2011, doi:10.1038/nmeth.1618).
"""

from __future__ import annotations

from collections.abc import Mapping

from .classes import VQClass

RGB = tuple[int, int, int]

CLASS_RGB: Mapping[VQClass, RGB] = {
    VQClass.NORMAL: (0, 158, 115),
    VQClass.DEAD_SPACE: (230, 159, 0),
    VQClass.SHUNT: (0, 114, 178),
    VQClass.MATCHED_DEFECT: (204, 121, 167),
}

CLASS_NAME: Mapping[VQClass, str] = {
    VQClass.NORMAL: "Normal",
    VQClass.DEAD_SPACE: "Dead space",
    VQClass.SHUNT: "Shunt",
    VQClass.MATCHED_DEFECT: "Matched defect",
}

#: 1 right, 2 left.
LUNG_RGB: Mapping[int, RGB] = {1: (86, 180, 233), 2: (240, 228, 66)}
