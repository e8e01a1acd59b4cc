"""A cohort -> statistics against DLCO: tables as CSV, figures, a page of HTML that needs no other file, and a PDF."""

from __future__ import annotations

import base64
import csv
import html
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from PIL import Image

from analysis.cohort import Correlation, GroupComparison, Interval, compare_groups, correlate
from analysis.cohort_figures import boxes, p_text, scatter
from analysis.errors import AnalysisError
from analysis.figures import RESEARCH_USE
from analysis.measures import MEASURES

from .cohort import Case, Cohort

FRACTIONS = ("total_abnormal", "shunt", "dead_space", "matched_defect")
#: Measures others use, beside the fractions: emphysema, heterogeneity of Q, air trapping.
COMPARATORS = ("laa950", "cv_q", "h_q", "mld_ratio")
DLCO = "DLCO, % predicted"
PANEL_PIXELS = 900


def write_report(cohort: Cohort, out: Path) -> list[Path]:
    """Write cases.csv, correlations.csv, groups.csv, figures as PNG, report.html and report.pdf.

    Raises
    ------
    Rejected
        Where total abnormal cannot be correlated with DLCO: too few cases.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = correlations(cohort)
    groups = group_comparisons(cohort)
    figures = _figures(cohort, found, groups)
    tables = {
        "cases": _cases_table(cohort),
        "correlations": _correlations_table(found),
        "groups": _groups_table(groups),
    }
    files = []
    for name, table in tables.items():
        if len(table) > 1:
            files.append(out / f"{name}.csv")
            with files[-1].open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(table)
    pictures = {}
    for name, figure in figures.items():
        files.append(out / f"{name}.png")
        figure.savefig(files[-1], dpi=150)
        pictures[name] = files[-1].read_bytes()
    files.append(out / "report.html")
    files[-1].write_text(_html(cohort, tables, pictures), encoding="utf-8")
    files.append(out / "report.pdf")
    with PdfPages(files[-1], metadata={"Title": "V/Q cohort report"}) as pdf:
        for figure in [*_text_pages(cohort, tables), *figures.values()]:
            pdf.savefig(figure)
    return files


def correlations(cohort: Cohort) -> dict[str, Correlation | str]:
    """Each fraction and comparator against DLCO; in place of one that cannot be had, why."""
    dlco = [case.dlco for case in cohort.cases]
    found: dict[str, Correlation | str] = {}
    for name in (*FRACTIONS, *COMPARATORS):
        try:
            found[name] = correlate(cohort.values(name), dlco)
        except AnalysisError as error:
            found[name] = str(error)
    return found


def group_comparisons(cohort: Cohort) -> dict[str, GroupComparison]:
    """Each fraction over the groups; nothing where there are no two groups of two cases."""
    found = {}
    for name in FRACTIONS:
        try:
            found[name] = compare_groups(_by_group(cohort, name))
        except AnalysisError:
            continue
    return found


def _by_group(cohort: Cohort, measure: str) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for case, value in zip(cohort.cases, cohort.values(measure), strict=True):
        if case.group:
            groups.setdefault(case.group, []).append(value)
    return dict(sorted(groups.items()))


def _figures(
    cohort: Cohort, found: Mapping[str, Correlation | str], groups: Mapping[str, GroupComparison]
) -> dict[str, Figure]:
    dlco, names = [case.dlco for case in cohort.cases], [case.group for case in cohort.cases]
    figures = {
        f"dlco_{name}": scatter(cohort.values(name), dlco, names, (_words(name), DLCO), one)
        for name, one in found.items()
        if isinstance(one, Correlation)
    }
    if groups:
        figures["groups"] = boxes(
            {_title(name): _by_group(cohort, name) for name in groups}, "% of the classified lung"
        )
    return figures


def _words(name: str) -> str:
    measure = MEASURES[name]
    return measure.meaning + ("" if measure.unit == "1" else f", {measure.unit}")


#: Short names, where a measure's own is none.
TITLES = {"laa950": "LAA-950", "cv_q": "CV of Q", "h_q": "H of Q", "mld_ratio": "E/I of mean density"}


def _title(name: str) -> str:
    return TITLES.get(name, name.replace("_", " ").capitalize())


Table = list[list[str]]


def _cases_table(cohort: Cohort) -> Table:
    names = list(MEASURES)
    values = {name: cohort.values(name) for name in names}
    return [
        ["case", "group", "dlco", *names],
        *(
            [case.name, case.group, f"{case.dlco:.6g}", *(f"{values[name][n]:.6g}" for name in names)]
            for n, case in enumerate(cohort.cases)
        ),
    ]


def _correlations_table(found: Mapping[str, Correlation | str]) -> Table:
    head = ["measure", "n", "r", "r 95 % CI", "r²", "r² 95 % CI", "p", "Spearman", "Spearman 95 % CI", "p"]
    rows = [[*head, "slope", "intercept"]]
    for name, one in found.items():
        if isinstance(one, str):
            rows.append([_words(name), one])
            continue
        rows.append(
            [
                *(_words(name), str(one.n), *_interval(one.r), *_interval(one.r2), f"{one.p:.3g}"),
                *(*_interval(one.rho), f"{one.rho_p:.3g}", f"{one.slope:.4g}", f"{one.intercept:.4g}"),
            ]
        )
    return rows


def _interval(one: Interval) -> tuple[str, str]:
    return f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}"


def _groups_table(groups: Mapping[str, GroupComparison]) -> Table:
    rows = [["measure", "comparison", "statistic", "p", "effect size", "medians, %"]]
    for name, one in groups.items():
        medians = "; ".join(f"{group} {m:.1f} (n={one.sizes[group]})" for group, m in one.medians.items())
        whole = f"{one.h:.3f}", f"{one.p:.3g}", f"{one.epsilon2:.3f}", medians
        rows.append([_title(name), "all groups (Kruskal-Wallis H, epsilon²)", *whole])
        for pair in one.pairs:
            words = f"{pair.a} - {pair.b} (Dunn z, Holm; Cliff's delta)"
            rows.append([_title(name), words, f"{pair.z:.3f}", f"{pair.p:.3g}", f"{pair.delta:.3f}", ""])
    return rows


NOTES = (
    "Pearson's r with Fisher's interval, Spearman's rho with that of Bonett and Wright (2000); no correction for "
    "the number of measures. Groups: Kruskal-Wallis, then Dunn's test with Holm's correction within each measure."
)


def _html(cohort: Cohort, tables: Mapping[str, Table], pictures: Mapping[str, bytes]) -> str:
    """A page that needs no other file."""
    left = "".join(f"<li>{html.escape(one)}</li>" for one in cohort.left_out)
    parts = [
        f"<h1>V/Q fractions and DLCO: {len(cohort.cases)} cases</h1>",
        f"<p class=limits>{html.escape(RESEARCH_USE)}</p>",
        f"<h2>Left out</h2><ul>{left}</ul>" if left else "",
        "<h2>Correlation with DLCO</h2>",
        _html_table(tables["correlations"]),
        "".join(_picture(data, name) for name, data in pictures.items() if name != "groups"),
        "<h2>Groups</h2>" if "groups" in pictures else "",
        _picture(pictures["groups"], "groups") + _html_table(tables["groups"])
        if "groups" in pictures
        else "",
        f"<p>{html.escape(NOTES)}</p>",
        "<h2>Cases: perfusion, ventilation, V/Q classes</h2>",
        "".join(_panel(case) for case in cohort.cases),
        "<h2>Every measure, both lungs</h2>",
        f"<div class=wide>{_html_table(tables['cases'])}</div>",
    ]
    style = (
        "body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse;font-size:13px}td,th{padding:2px 8px;border-bottom:1px solid #ccc;"
        "text-align:left}img{max-width:100%}.fig{width:48%}.wide{overflow-x:auto}.limits{color:#a03000}"
        "figure{margin:1em 0}"
    )  # fmt: skip
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>V/Q cohort report</title><style>{style}</style>"
        + "\n".join(parts)
        + "</html>\n"
    )


def _html_table(table: Table) -> str:
    head, *rows = table
    cells = "".join(f"<th>{html.escape(c)}</th>" for c in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def _picture(data: bytes, words: str, kind: str = "png") -> str:
    width = " class=fig" if words.startswith("dlco") else ""
    return f'<img{width} alt="{html.escape(words)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def _panel(case: Case) -> str:
    """The study's Figure 1 A-C of one case, made smaller."""
    path = case.folder / "overview.png"
    if not path.is_file():
        return ""
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((PANEL_PIXELS, PANEL_PIXELS))
        buffer = BytesIO()
        small.save(buffer, "JPEG", quality=80)
    words = f"{case.name}: total abnormal {case.measures['total_abnormal']:.1f} %, DLCO {case.dlco:.0f} %"
    words += f", {case.group}" if case.group else ""
    picture = _picture(buffer.getvalue(), case.name, "jpeg")
    return f"<figure>{picture}<figcaption>{html.escape(words)}</figcaption></figure>"


def _text_pages(cohort: Cohort, tables: Mapping[str, Table]) -> Iterable[Figure]:
    """A4 across: the tables as pages of a PDF."""
    figure = _page(f"V/Q fractions and DLCO: {len(cohort.cases)} cases", cohort.left_out)
    _draw(figure, tables["correlations"], 0.72)
    yield figure
    if len(tables["groups"]) > 1:
        figure = _page("Groups", ())
        _draw(figure, tables["groups"], 0.88)
        yield figure


def _page(title: str, lines: Sequence[str]) -> Figure:
    figure = Figure(figsize=(11.69, 8.27))
    figure.text(0.05, 0.94, title, fontsize=15, weight="bold")
    figure.text(0.05, 0.05, RESEARCH_USE, fontsize=8, color="#a03000")
    figure.text(0.05, 0.03, NOTES, fontsize=6.5)
    shown = [*lines[:6], *([f"… and {len(lines) - 6} more: see report.html"] if len(lines) > 6 else [])]
    for n, line in enumerate(shown):
        figure.text(0.05, 0.905 - 0.02 * n, line, fontsize=8)
    return figure


def _draw(figure: Figure, table: Table, top: float) -> None:
    axes = figure.add_axes((0.04, 0.07, 0.92, top - 0.07))
    axes.set_axis_off()
    width = max(len(row) for row in table)
    drawn = axes.table([row + [""] * (width - len(row)) for row in table], loc="upper left", cellLoc="left")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7)
    drawn.auto_set_column_width(list(range(width)))
    for cell in drawn.get_celld().values():
        cell.set_linewidth(0.3)


def summary(found: Mapping[str, Correlation | str]) -> list[tuple[str, str]]:
    """(measure, r² with its interval and p) for a terminal."""
    rows = []
    for name, one in found.items():
        if isinstance(one, str):
            rows.append((_title(name), one))
            continue
        r2 = f"r² {one.r2.value:.2f} ({one.r2.low:.2f}–{one.r2.high:.2f})"
        rows.append((_title(name), f"{r2}, r {one.r.value:+.2f}, {p_text(one.p)}"))
    return rows
