"""Results of one patient at several dates -> a page of the report: how the lungs' numbers went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from ..measures.table import MEASURES
from ..vq.classes import VQClass
from .colours import CLASS_RGB

INK, GREY = "#111111", "#555555"
#: Measures that are drawn, a panel each, with the colour of every line.
PANELS: tuple[Mapping[str, str], ...] = (
    {
        "total_abnormal": INK,
        **{
            c.name.lower(): "#{:02x}{:02x}{:02x}".format(*CLASS_RGB[c])
            for c in (VQClass.DEAD_SPACE, VQClass.SHUNT, VQClass.MATCHED_DEFECT)
        },
    },
    {"mean_v": "#440154"},
    {"laa950": "#8c510a"},
)
#: Unit -> least upper end of an axis, so that noise does not look like a trend.
LEAST_TOP = {"%": 5.0, "1": 0.2}
#: Largest number of dates in the table; the others are in the plots only.
MOST_ROWS = 11


@dataclass(frozen=True)
class Visit:
    """Hold the numbers of one date.

    Parameters
    ----------
    day : date
        When expiration was acquired.
    measures : mapping of str to float
        Of both lungs.
    alike : bool
        False where they were made by another version of the software or with other parameters than the report.
    """

    day: date
    measures: Mapping[str, float]
    alike: bool = True


def draw(figure: Figure, visits: Sequence[Visit]) -> None:
    """Draw plots against the date and a table into a page whose upper 13 % is already used.

    Parameters
    ----------
    figure : Figure
    visits : sequence of Visit
        In the order of time; the last is the report's own.
    """
    figure.text(0.07, 0.855, "Trend: both lungs, earlier results of this node and this one", fontsize=10,
                weight="bold", color=INK)  # fmt: skip
    days = date2num([visit.day for visit in visits])
    for n, panel in enumerate(PANELS):
        axes = figure.add_axes((0.1, 0.63 - 0.185 * n, 0.84, 0.195 if n == 0 else 0.125))
        for name, colour in panel.items():
            values = [visit.measures.get(name, np.nan) for visit in visits]
            axes.plot(days, values, "-o", color=colour, markersize=4, linewidth=1.2, label=_label(name))
            other = [n for n, visit in enumerate(visits) if not visit.alike]
            axes.plot(days[other], np.array(values)[other], "o", color="white", markersize=2.2)
        axes.xaxis_date()
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
        axes.tick_params(labelsize=7)
        axes.margins(x=0.04)
        drawn = [visit.measures.get(name, np.nan) for visit in visits for name in panel]
        finite = [value for value in drawn if np.isfinite(value)]
        least = LEAST_TOP[MEASURES[next(iter(panel))].unit]
        axes.set_ylim(min([0.0, *finite]), max([least, *(1.1 * value for value in finite)]))
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(-0.01, 0.99), ncols=4, frameon=False)
    _table(figure, visits[-MOST_ROWS:], 0.195)


def _table(figure: Figure, visits: Sequence[Visit], y: float) -> None:
    names = [name for panel in PANELS for name in panel]
    for n, name in enumerate(names):
        figure.text(0.27 + 0.13 * n, y + 0.014, _label(name), fontsize=7, ha="right", color=GREY)
    for visit in visits:
        figure.text(0.07, y, f"{visit.day:%Y-%m-%d}" + ("" if visit.alike else " *"), fontsize=7, color=INK)
        for n, name in enumerate(names):
            value = visit.measures.get(name, np.nan)
            digits = ".1f" if MEASURES[name].unit == "%" else ".2f"
            text = f"{value:{digits}}" if np.isfinite(value) else "–"
            figure.text(0.27 + 0.13 * n, y, text, fontsize=7, ha="right", color=INK)
        y -= 0.0118
    if not all(visit.alike for visit in visits):
        words = (
            "* (hollow): made by another version of the software or with other parameters; compare with care."
        )
        figure.text(0.07, 0.05, words, fontsize=7, color=GREY)


def _label(name: str) -> str:
    unit = {"1": ""}.get(MEASURES[name].unit, f", {MEASURES[name].unit}")
    return name.replace("_", " ").replace("laa950", "LAA-950").replace("mean v", "mean V") + unit
