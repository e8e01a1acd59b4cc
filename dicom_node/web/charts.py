"""Numbers -> the coordinates of small charts, which the templates draw as SVG without any script."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Axis:
    """One axis: from data to pixels.

    Parameters
    ----------
    low, high : float
        Ends in the data's unit.
    start, end : float
        The same ends in pixels.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """Return about five round values between the ends.

        Examples
        --------
        >>> Axis(0.0, 100.0, 0, 1).ticks
        [0, 20, 40, 60, 80, 100]
        """
        rough = (self.high - self.low) / 5
        power = 10 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(n * step, 10) for n in range(first, last + 1)]


def axis(values: Sequence[float], start: float, end: float, zero: bool = True) -> Axis:
    """Return an axis that holds values, from 0 where `zero` is True."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = min(0.0, low) if zero else low - 0.05 * (high - low or 1)
    high = high + 0.08 * (high - low) if high > low else low + 1.0
    return Axis(low, high, start, end)


def marks(points: Sequence[Any], x: Axis, y: Axis) -> Iterator[tuple[int, float, float, str]]:
    """Yield the job, the place and the label of each point of a cohort; a template takes five times as long for it."""
    for p in points:
        label = f"Result {p.job_id}: total abnormal {p.total_abnormal:.1f} %, DLCO {p.dlco:.0f} %"
        yield p.job_id, x.at(p.total_abnormal), y.at(p.dlco), label


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """Return the points of an SVG polyline."""
    return " ".join(f"{x:g},{y:g}" for x, y in points)
