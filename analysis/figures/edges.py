"""Directions of a picture's rows and columns -> the letters at its edges, drawn so that they can be read on any tissue.

R right, L left, A anterior, P posterior, S superior (towards the head), I inferior: of the patient, not of the reader.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from matplotlib import font_manager
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from ..volume import Labels

#: Colour of letters and of what is written into pictures.
YELLOW = (255, 220, 120)
#: Letters of the negative and the positive direction of x, y and z (LPS).
LETTERS = ("RL", "AP", "IS")


def letter(direction: ArrayLike) -> str:
    """Return the letter of the end that a direction, (3,) LPS, points to: of its largest component.

    Examples
    --------
    >>> letter((0.0, 0.8, -0.6)), letter((-1.0, 0.0, 0.0))
    ('P', 'R')
    """
    parts = np.asarray(direction, dtype=np.float64)
    axis = int(np.abs(parts).argmax())
    return LETTERS[axis][int(parts[axis] > 0)]


def edge_letters(across: ArrayLike, down: ArrayLike) -> tuple[str, str, str, str]:
    """Return the letters at the left, right, upper and lower edge of a picture.

    Parameters
    ----------
    across, down : (3,) float
        Directions (LPS) in which columns and rows are counted.
    """
    x, y = (np.asarray(d, dtype=np.float64) for d in (across, down))
    return letter(-x), letter(x), letter(-y), letter(y)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the one font of all pictures."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def letter_size(width: int) -> int:
    """Return the height of letters in pixels for a picture of a width."""
    return max(9, width // 28)


def letter_places(width: int, height: int) -> tuple[tuple[int, int], ...]:
    """Return the centres (x, y) of the letters at the left, right, upper and lower edge."""
    away = letter_size(width) * 3 // 4 + 1
    return (
        (away, height // 2),
        (width - 1 - away, height // 2),
        (width // 2, away),
        (width // 2, height - 1 - away),
    )


def write_letters(picture: Labels, letters: tuple[str, str, str, str]) -> Labels:
    """Return the picture, (rows, columns, 3) uint8, with the letters at its edges, each with a black rim."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    rows, columns = picture.shape[:2]
    for place, text in zip(letter_places(columns, rows), letters, strict=True):
        draw.text(place, text, font=font(letter_size(columns)), fill=YELLOW, anchor="mm", stroke_width=1,
                  stroke_fill="black")  # fmt: skip
    return np.asarray(image)
