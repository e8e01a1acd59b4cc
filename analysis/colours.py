"""The colours of classes and lungs, the same in every object, figure and page (sRGB, 0-255).

Okabe & Ito's qualitative set: told apart with every common colour vision deficiency and in grey.
"""

from __future__ import annotations

from collections.abc import Mapping

from .classes import VQClass

RGB = tuple[int, int, int]

#: Orange and blue are the two kinds of mismatch, purple is both, green is normal.
CLASS_RGB: Mapping[VQClass, RGB] = {
    VQClass.NORMAL: (0, 158, 115),
    VQClass.DEAD_SPACE: (230, 159, 0),
    VQClass.SHUNT: (0, 114, 178),
    VQClass.MATCHED_DEFECT: (204, 121, 167),
}

#: `lungs.Lung` value (1 right, 2 left) -> colour of its outline.
LUNG_RGB: Mapping[int, RGB] = {1: (86, 180, 233), 2: (240, 228, 66)}

#: Words for legends.
CLASS_NAME: Mapping[VQClass, str] = {
    VQClass.NORMAL: "Normal",
    VQClass.DEAD_SPACE: "Dead space",
    VQClass.SHUNT: "Shunt",
    VQClass.MATCHED_DEFECT: "Matched defect",
}
