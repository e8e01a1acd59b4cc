"""Analysis -> a report of two A4 pages as a PDF file: pictures and fractions; numbers, quality, method, limits."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from ..anatomy.regions import WHOLE
from ..limits_of_use import LIMITS, RESEARCH_USE
from ..measures.findings import Finding
from ..measures.table import FIRM, FIRMNESS, measures_of
from ..parameters import Parameters
from ..pipeline.pipeline import Analysis
from ..vq.classes import NORMALISED_BY
from ..vq.ventilation import VENTILATIONS
from .overview import classes_in_words, fractions, planes, quality_in_words, worst_zone
from .trend import Visit, draw

A4 = (8.27, 11.69)
INK = "#111111"
GREY = "#555555"
LEFT = 0.07
#: Height of a line of the table, as a share of the page.
LINE = 0.0122
#: UCUM unit -> format of its numbers; units not listed get two decimals.
DECIMALS = {"%": ".1f", "ml": ".0f", "g": ".0f", "[hnsf'U]": ".0f", "g/ml": ".4f"}
#: Right edge of the first column of numbers, and from one to the next, as shares of the page.
COLUMN, WIDTH = 0.61, 0.145
#: Embedded TrueType: searchable text in any script the fonts hold.
STYLE = {"pdf.fonttype": 42, "font.family": ["DejaVu Sans"]}
TITLE = "CT lung ventilation/perfusion report"
METHOD = (
    "Expiratory and inspiratory non-contrast CT were registered deformably within the lungs. Ventilation V is "
    "{formula}, J the local volume change; the perfusion surrogate Q is the magnitude of the local mean change of "
    "apparent blood mass (Castillo 2021, doi:10.1002/mp.14792; method: {perfusion}). Both are smoothed alike (sigma "
    "{sigma_mm:g} mm){gravity} and called low below {low:.0%} of their {by}. Dead space: Q low, V preserved. Shunt: V "
    "low, Q preserved. Matched defect: both low. Vessels and a rim of {rim_mm:g} mm are not classified; abnormal "
    "regions below {min_defect_ml:g} ml count as normal. All maps lie on the expiratory CT. A "
    "fraction's standard uncertainty (after +/-) is its change under random errors of the registration, of the size "
    "that the registration sees of itself; in brackets stands the fraction at the thresholds 0.50 and 0.75."
)


def method_in_words(parameters: Parameters) -> str:
    """Return a text on how the result was made."""
    return METHOD.format(
        **vars(parameters) | {"gravity": ", freed of gravity's gradient" if parameters.gravity else ""},
        formula=VENTILATIONS[parameters.ventilation].formula,
        by=NORMALISED_BY[parameters.normalisation],
    )


@dataclass(frozen=True)
class Line:
    """Hold a line of a page.

    Parameters
    ----------
    height : float
        Share of the page.
    texts : tuple of (float, str, mapping)
        Where each begins (share of the width), its words, and what matplotlib's text takes.
    """

    height: float
    texts: tuple[tuple[float, str, Mapping[str, Any]], ...]


def report_pdf(
    analysis: Analysis,
    header: Sequence[tuple[str, str]],
    created: datetime,
    trend: Sequence[Visit] = (),
) -> bytes:
    """Return the report as a PDF file; the same input makes the same bytes.

    Parameters
    ----------
    analysis : Analysis
    header : sequence of (str, str)
        Names and values at the top of both pages, e.g. ``("Patient", "Doe^Jane")``.
    created : datetime
        Date of the file.
    trend : sequence of Visit
        Earlier results of the patient, and this one: a page of its own, where there are any.
    """
    buffer = BytesIO()
    about = {"Title": TITLE, "Creator": f"vq-dicom-node {analysis.version}", "CreationDate": created}
    with matplotlib.rc_context(STYLE), PdfPages(buffer, metadata=about) as pdf:
        pages = [_pictures, _numbers]
        if trend:
            pages.append(lambda figure, analysis: draw(figure, trend))
        for number, page in enumerate(pages, 1):
            figure = Figure(figsize=A4)
            _frame(figure, analysis, header, f"page {number} of {len(pages)}")
            page(figure, analysis)
            pdf.savefig(figure, dpi=200)
    return buffer.getvalue()


def _frame(figure: Figure, analysis: Analysis, header: Sequence[tuple[str, str]], number: str) -> None:
    figure.text(0.07, 0.955, TITLE, fontsize=15, weight="bold", color=INK)
    half = (len(header) + 1) // 2
    for n, (name, value) in enumerate(header):
        x, y = 0.07 + 0.44 * (n // half), 0.932 - 0.016 * (n % half)
        figure.text(x, y, name, fontsize=8, color=GREY)
        figure.text(x + 0.12, y, value, fontsize=8, color=INK)
    figure.text(0.07, 0.03, RESEARCH_USE, fontsize=8, color="#a03000")
    figure.text(0.93, 0.03, f"vq-dicom-node {analysis.version}   {number}", fontsize=8, ha="right")


def _pictures(figure: Figure, analysis: Analysis) -> None:
    values = analysis.measures["lungs"]
    words = (
        f"Total abnormal {values['total_abnormal']:.1f} % of the classified lung: dead space "
        f"{values['dead_space']:.1f} %, shunt {values['shunt']:.1f} %, matched defect {values['matched_defect']:.1f} %."
    )
    told = (
        f"{worst_zone(analysis)} {quality_in_words(analysis.findings)}",
        classes_in_words(analysis.parameters),
    )
    lines = [Line(0.018, ((LEFT, words, {"size": 9, "weight": "bold"}),))]
    _flow(figure, [*lines, *(line for part in told for line in _paragraph(part))], 0.874, 0.8)
    planes(figure, analysis, (0.09, 0.36, 0.86, 0.43), INK)
    fractions(figure, analysis, (0.07, 0.06, 0.86, 0.27), INK)


def _numbers(figure: Figure, analysis: Analysis) -> None:
    told = (("Method", method_in_words(analysis.parameters)), ("Limits", LIMITS))
    lines = [*_measurements(analysis), *_quality(analysis.findings)]
    lines += [line for words, text in told for line in (_heading(words), *_paragraph(text))]
    _flow(figure, lines, 0.872, 0.045)


def _measurements(analysis: Analysis) -> list[Line]:
    heads = [
        (COLUMN + WIDTH * n, words, {"ha": "right", "color": GREY})
        for n, words in enumerate(("Both lungs", "Right", "Left"))
    ]
    first = _heading("Measurements")
    lines = [Line(first.height, (*first.texts, *heads))]
    for name, measure in measures_of(analysis.parameters.ventilation).items():
        if name in FIRMNESS:
            continue
        numbers = [
            (COLUMN + WIDTH * n, _value(analysis.measures[region], name, measure.unit), {"ha": "right"})
            for n, region in enumerate(WHOLE)
        ]
        unit = {"1": "", "[hnsf'U]": "HU"}.get(measure.unit, measure.unit)
        row = ((LEFT, measure.meaning, {}), *numbers, (0.905, unit, {"color": GREY}))
        lines.append(Line(LINE, row))
    return lines


def _quality(findings: Sequence[Finding]) -> list[Line]:
    """Return a line for each check that did not pass, and one paragraph on those that passed."""
    lines = [_heading("Quality")]
    for finding in sorted(findings, key=lambda f: f.verdict != "fail"):
        if finding.verdict == "pass":
            continue
        mark = {"color": {"warn": "#b26a00", "fail": "#b00020"}[finding.verdict]}
        first, *rest = textwrap.wrap(f"{finding.check}: {finding.sentence}", 128)
        lines.append(Line(LINE, ((LEFT, finding.verdict, mark), (0.11, first, {}))))
        lines += [Line(LINE, ((0.11, words, {}),)) for words in rest]
    passed = "; ".join(f"{f.check}: {f.sentence}" for f in findings if f.verdict == "pass")
    return lines + (_paragraph(f"Passed: {passed}.") if passed else [])


def _heading(words: str) -> Line:
    return Line(0.023, ((LEFT, words, {"size": 10, "weight": "bold"}),))


def _paragraph(words: str) -> list[Line]:
    return [Line(LINE, ((LEFT, part, {}),)) for part in textwrap.wrap(words, 138)]


def _flow(figure: Figure, lines: Sequence[Line], top: float, bottom: float) -> None:
    """Draw lines below one another; what does not fit between ``top`` and ``bottom`` is drawn smaller."""
    scale = min(1.0, (top - bottom) / sum(line.height for line in lines))
    y = top
    for line in lines:
        y -= line.height * scale
        for x, words, style in line.texts:
            size = style.get("size", 7) * scale
            figure.text(x, y, words, **{"color": INK, **style, "size": size})


def _value(row: Mapping[str, float], name: str, unit: str) -> str:
    """Format a number; a fraction with its standard uncertainty and its values at thresholds 0.50 and 0.75."""
    text = _number(row.get(name), unit)
    if name not in FIRM or f"{name}_sd" not in row:
        return text
    sd, low, high = (_number(row.get(f"{name}_{kind}"), unit) for kind in ("sd", "50", "75"))
    return f"{text} ± {sd} ({low}–{high})"


def _number(value: float | None, unit: str) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:{DECIMALS.get(unit, '.2f')}}"
