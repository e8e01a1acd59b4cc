"""Analysis -> a report of two A4 pages as a PDF file: pictures and fractions; numbers, quality, method, limits."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO

import matplotlib
import numpy as np
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from .figures import RESEARCH_USE, fractions, planes
from .measures import MEASURES
from .pipeline import Analysis

A4 = (8.27, 11.69)
INK = "#111111"
#: Regions side by side in the table of numbers.
COLUMNS = ("lungs", "right", "left")
#: Embedded TrueType: searchable text in any script the fonts hold.
STYLE = {"pdf.fonttype": 42, "font.family": ["DejaVu Sans"]}
TITLE = "CT lung ventilation/perfusion report"
METHOD = (
    "Expiratory and inspiratory non-contrast CT were registered deformably within the lungs. Ventilation V is the "
    "local volume change (Jacobian - 1); the perfusion surrogate Q is the magnitude of the local mean change of "
    "apparent blood mass (Castillo 2021, doi:10.1002/mp.14920). Both are smoothed alike (sigma {sigma_mm:g} mm) and "
    "called low below {low:.0%} of their mean over both lungs. Dead space: Q low, V preserved. Shunt: V low, Q "
    "preserved. Matched defect: both low. Vessels and a rim of {rim_mm:g} mm are not classified; abnormal regions "
    "below {min_defect_ml:g} ml count as normal. All maps lie on the expiratory CT."
)
LIMITS = (
    "Research use only; not for diagnosis. Q is a surrogate of perfusion derived from CT density, not a measurement "
    "of blood flow: methods of this kind agree with SPECT perfusion with a median Spearman correlation of 0.49-0.57. "
    "V and Q are judged against the patient's own mean: disease that is the same everywhere is not seen in the "
    "fractions. Poor expiration, motion and misregistration change both maps."
)


def report_pdf(analysis: Analysis, header: Sequence[tuple[str, str]], created: datetime) -> bytes:
    """The report as a PDF file; the same input makes the same bytes.

    Parameters
    ----------
    analysis : Analysis
    header : sequence of (str, str)
        What stands at the top of both pages, e.g. ``("Patient", "Doe^Jane")``.
    created : datetime
        Date of the file.
    """
    buffer = BytesIO()
    about = {"Title": TITLE, "Creator": f"vq-dicom-node {analysis.version}", "CreationDate": created}
    with matplotlib.rc_context(STYLE), PdfPages(buffer, metadata=about) as pdf:
        for number, page in enumerate((_pictures, _numbers), 1):
            figure = Figure(figsize=A4)
            _frame(figure, analysis, header, number)
            page(figure, analysis)
            pdf.savefig(figure, dpi=200)
    return buffer.getvalue()


def _frame(figure: Figure, analysis: Analysis, header: Sequence[tuple[str, str]], number: int) -> None:
    figure.text(0.07, 0.955, TITLE, fontsize=15, weight="bold", color=INK)
    half = (len(header) + 1) // 2
    for n, (name, value) in enumerate(header):
        x, y = 0.07 + 0.44 * (n // half), 0.932 - 0.016 * (n % half)
        figure.text(x, y, name, fontsize=8, color="#555555")
        figure.text(x + 0.12, y, value, fontsize=8, color=INK)
    figure.text(0.07, 0.03, RESEARCH_USE, fontsize=8, color="#a03000")
    figure.text(0.93, 0.03, f"vq-dicom-node {analysis.version}   page {number} of 2", fontsize=8, ha="right")


def _pictures(figure: Figure, analysis: Analysis) -> None:
    values = analysis.measures["lungs"]
    words = (
        f"Total abnormal {values['total_abnormal']:.1f} % of the classified lung: dead space "
        f"{values['dead_space']:.1f} %, shunt {values['shunt']:.1f} %, matched defect {values['matched_defect']:.1f} %."
    )
    figure.text(0.07, 0.855, words, fontsize=9.5, weight="bold", color=INK)
    checks = [f.check for f in analysis.findings if f.verdict != "pass"]
    quality = f"Quality: {len(analysis.findings)} checks, "
    quality += (
        "all passed." if not checks else "to be read with care: " + ", ".join(dict.fromkeys(checks)) + "."
    )
    _paragraph(figure, 0.835, quality)
    planes(figure, analysis, (0.09, 0.36, 0.86, 0.43), INK)
    fractions(figure, analysis, (0.07, 0.06, 0.86, 0.27), INK)


def _numbers(figure: Figure, analysis: Analysis) -> None:
    y = _heading(figure, 0.855, "Measurements")
    for n, name in enumerate(("Both lungs", "Right", "Left")):
        figure.text(0.66 + 0.12 * n, y + 0.014, name, fontsize=7, ha="right", color="#555555")
    for name, measure in MEASURES.items():
        figure.text(0.07, y, measure.meaning, fontsize=7, color=INK)
        for n, region in enumerate(COLUMNS):
            figure.text(
                0.66 + 0.12 * n, y, _number(analysis.measures[region].get(name)), fontsize=7, ha="right"
            )
        unit = {"1": "", "[hnsf'U]": "HU"}.get(measure.unit, measure.unit)
        figure.text(0.905, y, unit, fontsize=7, color="#555555")
        y -= 0.0122
    y = _heading(figure, y - 0.008, "Quality")
    for finding in sorted(analysis.findings, key=lambda f: ("fail", "warn", "pass").index(f.verdict)):
        colour = {"pass": "#2e7d32", "warn": "#b26a00", "fail": "#b00020"}[finding.verdict]
        figure.text(0.07, y, finding.verdict, fontsize=7, color=colour)
        for line in textwrap.wrap(f"{finding.check}: {finding.sentence}", 135):
            figure.text(0.11, y, line, fontsize=7, color=INK)
            y -= 0.0118
    y = _paragraph(figure, _heading(figure, y - 0.008, "Method"), METHOD.format(**vars(analysis.parameters)))
    _paragraph(figure, _heading(figure, y - 0.008, "Limits"), LIMITS)


def _heading(figure: Figure, y: float, words: str) -> float:
    figure.text(0.07, y, words, fontsize=10, weight="bold", color=INK)
    return y - 0.017


def _paragraph(figure: Figure, y: float, words: str) -> float:
    for line in textwrap.wrap(words, 138):
        figure.text(0.07, y, line, fontsize=7, color=INK)
        y -= 0.0118
    return y


def _number(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.4g}"
