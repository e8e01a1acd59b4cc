"""A patient's result and his cohort -> Figure 1 as PDF and SVG (vectors) and PNG (300 dots an inch)."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from analysis.cohort.figures import Style, draw_scatter
from analysis.cohort.statistics import correlate
from analysis.figures.study_figure import study_figure

from ..errors import Rejected
from ..results.record import NAME, read_record
from .cohort import Case, Cohort

LABELS = ("Total abnormal, % of classified lung", "DLCO, % predicted")


def write_figure(cohort: Cohort, out: Path, name: str = "") -> list[Path]:
    """Write ``figure1.pdf``, ``.svg`` and ``.png``.

    Parameters
    ----------
    cohort : Cohort
    out : Path
        Folder that is there.
    name : str
        The case to show; "" for the one with most abnormal lung whose result is kept whole.

    Raises
    ------
    Rejected
        Where there is no such case, or its folder holds no ``analysis.npz``.
    """
    case = _chosen(cohort, name)
    record = read_record(case.folder / NAME)
    x, y = cohort.values("total_abnormal"), [one.dlco for one in cohort.cases]
    draw = partial(
        draw_scatter,
        values=(x, y),
        groups=[one.group for one in cohort.cases],
        labels=LABELS,
        found=correlate(x, y),
        style=Style(7.0, 10.0, cohort.cases.index(case)),
    )
    words = f"{case.name}: total abnormal {case.measures['total_abnormal']:.0f} %, DLCO {case.dlco:.0f} % (ringed)."
    figure = study_figure(record.analysis, draw, words)
    files = [out / f"figure1.{kind}" for kind in ("pdf", "svg", "png")]
    for path in files:
        figure.savefig(path)
    return files


def _chosen(cohort: Cohort, name: str) -> Case:
    cases = [case for case in cohort.cases if (case.folder / NAME).is_file()]
    if name:
        found = next((case for case in cohort.cases if case.name == name), None)
        if found is None:
            raise Rejected(f"the cohort has no case {name}")
        return found
    if not cases:
        raise Rejected(f"no case of the cohort has its {NAME}: Figure 1 cannot be drawn")
    return max(cases, key=lambda case: _number(case.measures["total_abnormal"]))


def _number(value: float) -> float:
    return -1.0 if math.isnan(value) else value
