"""Analysis -> a report on A4 as a PDF file: impression and pictures; numbers and checks; coronal slabs; the trend."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..anatomy.regions import REGIONS, WHOLE
from ..limits_of_use import LIMITS, RESEARCH_USE
from ..measures.digits import UNIT_WORDS, firm_text, sd_of, text_of
from ..measures.findings import Finding
from ..measures.reference import Person, references
from ..measures.shares import RESECTION_SOURCE
from ..measures.table import FIRM, FIRMNESS, NEAR, measures_of
from ..parameters import Parameters, PictureStyle
from ..pipeline.pipeline import Analysis
from ..vq.classes import NORMALISED_BY
from ..vq.ventilation import VENTILATIONS
from .colours import ABNORMAL, CLASS_RGB
from .impression import impression
from .montage import montage
from .overview import classes_in_words, planes, scales_in_words, swatch
from .trend import Visit, draw

A4 = (8.27, 11.69)
INK = "#111111"
GREY = "#555555"
LEFT = 0.07
#: Height of a line of the table, as a share of the page.
LINE = 0.0122
#: Embedded TrueType: searchable text in any script the fonts hold.
STYLE = {"pdf.fonttype": 42, "font.family": ["DejaVu Sans"]}
TITLE = "CT lung ventilation/perfusion report"
METHOD = (
    "Expiratory and inspiratory non-contrast CT were registered deformably within the lungs. Ventilation V is "
    "{formula}, J the local volume change; the perfusion surrogate Q is the magnitude of the local mean change of "
    "apparent blood mass (Castillo 2021, doi:10.1002/mp.14792; method: {perfusion}). Both are smoothed alike (twiced "
    "Gaussian, {sigma_mm:g} mm){gravity} and called low below {low:.0%} of their {by}. Dead space: Q low, V preserved. "
    "Shunt: V low, Q preserved. Matched defect: both low. Vessels and a rim of {rim_mm:g} mm are not classified; "
    "abnormal regions below {min_defect_ml:g} ml count as normal. All maps lie on the expiratory CT. A fraction's "
    "standard uncertainty (after +/-, SD) is its change under errors of registration, density, smoothing and the level "
    "of V and Q, of sizes set on twins whose truth is known; in brackets stands the fraction at the thresholds 0.50 "
    "and 0.75."
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


@dataclass(frozen=True)
class Facts:
    """Hold what the report says of the patient and the scan, as names and values.

    Parameters
    ----------
    who : sequence of (str, str)
        Patient, dates, institution: at the top of the first page, the first three on every page.
    scan : sequence of (str, sequence of str)
        A row for each phase: series, date and time, kVp, kernel, slices, dose.
    person : Person
        What predicts lung volumes.
    """

    who: Sequence[tuple[str, str]]
    scan: Sequence[tuple[str, Sequence[str]]] = ()
    person: Person = field(default_factory=Person)


#: What the columns of `Facts.scan` are, and where each begins.
SCAN = (
    ("Series", 0.17),
    ("Acquired", 0.42),
    ("kVp", 0.575),
    ("Kernel", 0.62),
    ("Slice", 0.72),
    ("CTDIvol", 0.82),
)


def report_pdf(
    analysis: Analysis,
    facts: Facts,
    created: datetime,
    trend: Sequence[Visit] = (),
    style: PictureStyle | None = None,
) -> bytes:
    """Return the report as a PDF file; the same input makes the same bytes.

    Parameters
    ----------
    analysis : Analysis
    facts : Facts
    created : datetime
        Date of the file.
    trend : sequence of Visit
        Earlier results of the patient, and this one: a page of its own, where there are any.
    style : PictureStyle, optional
    """
    buffer = BytesIO()
    shape = style or PictureStyle()
    about = {"Title": TITLE, "Creator": f"vq-dicom-node {analysis.version}", "CreationDate": created}
    pages: list[Callable[[Figure], None]] = [
        lambda figure: _summary(figure, analysis, facts, shape),
        lambda figure: _numbers(figure, analysis, facts),
        lambda figure: montage(figure, analysis, shape, (0.07, 0.055, 0.86, 0.845), INK),
    ]
    if trend:
        pages.append(lambda figure: draw(figure, trend))
    with matplotlib.rc_context(STYLE), PdfPages(buffer, metadata=about) as pdf:
        for number, page in enumerate(pages, 1):
            figure = Figure(figsize=A4)
            _frame(figure, analysis, facts, f"page {number} of {len(pages)}")
            page(figure)
            pdf.savefig(figure, dpi=200)
    return buffer.getvalue()


def _frame(figure: Figure, analysis: Analysis, facts: Facts, number: str) -> None:
    figure.text(LEFT, 0.958, TITLE, fontsize=15, weight="bold", color=INK)
    if not number.startswith("page 1 "):
        words = "   ".join(value for _, value in facts.who[:3] if value)
        figure.text(LEFT, 0.938, words, fontsize=8, color=INK)
    _rule(figure, 0.93)
    _rule(figure, 0.042)
    figure.text(LEFT, 0.028, RESEARCH_USE, fontsize=8, color="#a03000")
    figure.text(0.93, 0.028, f"vq-dicom-node {analysis.version}   {number}", fontsize=8, ha="right")


def _rule(figure: Figure, y: float) -> None:
    figure.add_artist(Line2D([LEFT, 0.93], [y, y], linewidth=0.6, color="#999999"))


def _summary(figure: Figure, analysis: Analysis, facts: Facts, style: PictureStyle) -> None:
    for n, (name, value) in enumerate(facts.who):
        x, y = LEFT + 0.29 * (n % 3), 0.914 - 0.0145 * (n // 3)
        figure.text(x, y, name, fontsize=7, color=GREY)
        figure.text(x + 0.085, y, value, fontsize=7.5, color=INK)
    y = 0.914 - 0.0145 * ((len(facts.who) + 2) // 3) - 0.003
    for head, x in SCAN:
        figure.text(x, y, head, fontsize=6.5, color=GREY)
    for phase, values in facts.scan:
        y -= 0.013
        figure.text(LEFT, y, phase, fontsize=7, color=GREY)
        for (_, x), value in zip(SCAN, values, strict=True):
            figure.text(x, y, value, fontsize=7, color=INK)
    _rule(figure, y - 0.009)
    lines = [Line(0.021, ((LEFT, "Impression", {"size": 11, "weight": "bold"}),))]
    for sentence in impression(analysis):
        parts = textwrap.wrap(sentence.replace("+/-", "±"), 108)
        lines += [Line(0.0158, ((LEFT, part, {"size": 9}),)) for part in parts]
    _flow(figure, lines, y - 0.014, 0.712)
    told = (classes_in_words(analysis.parameters), scales_in_words(analysis, style))
    _flow(figure, [line for part in told for line in _paragraph(part)], 0.708, 0.66)
    planes(figure, analysis, (0.09, 0.285, 0.86, 0.36), INK, style)
    _regions(figure, analysis, 0.272)
    figure.text(LEFT, 0.051, "Read by", fontsize=8, color=GREY)
    figure.text(0.6, 0.051, "Date", fontsize=8, color=GREY)
    for start, stop in ((0.125, 0.57), (0.64, 0.93)):
        figure.add_artist(Line2D([start, stop], [0.05, 0.05], linewidth=0.6, color=INK))


#: Columns of the table of regions: words, measure, right edge. Fractions of both lungs come with their uncertainty.
REGION_COLUMNS = (
    ("Dead space", "dead_space", 0.335),
    ("Shunt", "shunt", 0.43),
    ("Matched", "matched_defect", 0.525),
    ("Total abnormal", "total_abnormal", 0.625),
    ("of volume", "share_volume", 0.70),
    ("of V", "share_v", 0.755),
    ("of Q", "share_q", 0.81),
    ("V stays", "remaining_v", 0.87),
    ("Q stays", "remaining_q", 0.93),
)


def _regions(figure: Figure, analysis: Analysis, top: float) -> None:
    """Draw the table of regions: fractions with uncertainty, shares, and what stays after a resection."""
    rows = list(analysis.measures)
    step = min(0.0135, (top - 0.109) / (len(rows) + 2))
    heads = (
        ("percent of its classified lung ± uncertainty", 0.625),
        ("share of both lungs, %", 0.81),
        ("after removal*, %", 0.93),
    )
    for words, x in heads:  # they end where the last of their columns ends
        figure.text(x, top - step, words, fontsize=6.5, color=GREY, ha="right")
    colours = {c.name.lower(): CLASS_RGB[c] for c in ABNORMAL}
    for words, name, x in REGION_COLUMNS:
        figure.text(x, top - 2 * step, words, fontsize=6.5, color=GREY, ha="right")
        if name in colours:
            swatch(figure, x + 0.004, top - 2 * step, colours[name])
    for n, region in enumerate(rows):
        y = top - (n + 3) * step
        weight = "bold" if region in WHOLE else "normal"
        figure.text(LEFT, y, REGIONS[region], fontsize=7, color=INK, weight=weight)
        for _, name, x in REGION_COLUMNS:
            text = _cell(analysis.measures[region], name)
            figure.text(x, y, text, fontsize=7, color=INK, ha="right", weight=weight)
    ranges = "; ".join(
        f"{words.lower()} {firm_text(analysis.measures['lungs'], name).split('(')[-1].rstrip(')')}"
        for name, words in FIRM.items()
    )
    near = "; ".join(
        f"{words.lower()} {text_of(analysis.measures['lungs'].get(f'{name}_borderline'), '%')} %"
        for name, words in FIRM.items()
    )
    notes = (
        f"Part of each {NEAR}: {near}.",
        f"Both lungs, at thresholds from 50 to 75 % instead of {100 * analysis.parameters.low:.0f} %: {ranges}.",
        f"* Predicted share of V and Q of both lungs that stays after the resection: {RESECTION_SOURCE}.",
    )
    for n, words in enumerate(notes):
        figure.text(LEFT, 0.0985 - 0.0115 * n, words, fontsize=6.2, color=GREY)


def _cell(row: Mapping[str, float], name: str) -> str:
    """Return a cell of the table of regions; empty where the region has no such measure."""
    if name not in row:
        return ""
    sd = sd_of(row, name)
    if sd is None or not np.isfinite(sd):
        return text_of(row[name], "%").replace("-", "–")
    return f"{text_of(row[name], '%', sd)} ± {text_of(sd, '%', sd)}"


def _numbers(figure: Figure, analysis: Analysis, facts: Facts) -> None:
    told = (("Method", method_in_words(analysis.parameters)), ("Limits", LIMITS))
    lines = [*_measurements(analysis, facts.person), *_quality(analysis.findings)]
    lines += [line for words, text in told for line in (_heading(words), *_paragraph(text))]
    _flow(figure, lines, 0.92, 0.05)


#: What stands in the table of regions on the first page, and not again.
ON_FIRST_PAGE = FIRMNESS | {name for _, name, _ in REGION_COLUMNS}


def _measurements(analysis: Analysis, person: Person) -> list[Line]:
    published = references(person)
    sources = list(dict.fromkeys(one.source for one in published.values()))
    columns = (*zip(("Both lungs", "Right", "Left"), (0.50, 0.575, 0.65), strict=True),)
    heads = [(x, words, {"ha": "right", "color": GREY}) for words, x in columns]
    first = _heading("Measurements")
    lines = [Line(first.height, (*first.texts, *heads, (0.72, "Published (both lungs)", {"color": GREY})))]
    for name, measure in measures_of(analysis.parameters.ventilation).items():
        if name in ON_FIRST_PAGE:
            continue
        numbers = [
            (
                x,
                text_of(analysis.measures[region].get(name), measure.unit).replace("-", "\u2212"),
                {"ha": "right"},
            )
            for (_, x), region in zip(columns, WHOLE, strict=True)
        ]
        unit = (0.657, UNIT_WORDS.get(measure.unit, measure.unit), {"color": GREY})
        row = [(LEFT, measure.meaning, {}), *numbers, unit]
        if name in published:
            mark = sources.index(published[name].source) + 1
            row.append((0.72, f"{published[name].words.replace('-', '–')} [{mark}]", {}))
        lines.append(Line(LINE, tuple(row)))
    named = "; ".join(f"[{n}] {source}" for n, source in enumerate(sources, 1))
    return [*lines, *(Line(LINE, ((LEFT, part, {"color": GREY}),)) for part in textwrap.wrap(named, 138))]


MARKS = {"pass": "#2a7a3a", "warn": "#b26a00", "fail": "#b00020"}


def _quality(findings: Sequence[Finding]) -> list[Line]:
    """Return the table of checks, two in a line, and below it a sentence for each that did not pass."""
    order = sorted(findings, key=lambda f: ("fail", "warn", "pass").index(f.verdict))
    half = (len(order) + 1) // 2
    lines = [_heading("Quality checks")]
    for n in range(half):
        texts: list[tuple[float, str, Mapping[str, Any]]] = []
        for x, finding in zip((LEFT, 0.51), order[n::half], strict=False):
            value = "" if finding.value is None else _measured(finding)
            texts += [
                (x, finding.verdict, {"color": MARKS[finding.verdict], "weight": "bold"}),
                (x + 0.04, textwrap.shorten(finding.check, 34, placeholder="…"), {}),
                (x + 0.275, value, {"ha": "right"}),
                (x + 0.285, textwrap.shorten(finding.limit, 25, placeholder="…"), {"color": GREY, "size": 6}),
            ]
        lines.append(Line(LINE, tuple(texts)))
    for finding in order:
        if finding.verdict != "pass":
            told, *rest = textwrap.wrap(f"{finding.check}: {finding.sentence}", 128)
            mark = {"color": MARKS[finding.verdict], "weight": "bold"}
            lines.append(Line(LINE, ((LEFT, finding.verdict, mark), (LEFT + 0.04, told, {}))))
            lines += [Line(LINE, ((LEFT + 0.04, words, {}),)) for words in rest]
    return lines


def _measured(finding: Finding) -> str:
    unit = UNIT_WORDS.get(finding.unit, finding.unit)
    if finding.value is not None and abs(finding.value) >= 100:
        return f"{finding.value:.0f} {unit}".rstrip()
    return f"{finding.value:.3g} {unit}".rstrip()


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
