"""The tables and figures of a cohort -> a page of HTML that needs no other file, and the pages of a PDF."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from textwrap import wrap

from matplotlib.figure import Figure
from PIL import Image

from analysis.limits_of_use import RESEARCH_USE

from .cohort import Case, Cohort

Table = list[list[str]]

PANEL_PIXELS = 900
#: Left, top, right and bottom of the pictures on the overview, shares of it: the caption says the rest.
PLANES = (0.0, 0.055, 0.668, 0.965)
#: Largest number of cases whose panels are in the reports; the others stay in their folders.
PANELS = 100
PANELS_A_PAGE = 6
#: Most lines above the tables of a page of the PDF, and of a table on one page.
LINES, TABLE_LINES = 8, 34
#: Places of a page's tables, shares of its height: the first begins at TOP, the last ends at BOTTOM.
TOP, BOTTOM, LINE, TITLE, GAP = 0.93, 0.08, 0.021, 0.012, 0.04

#: Tables that are there where the table of cases has further columns.
FURTHER = (
    ("Correlation with DLCO, adjusted", "adjusted"),
    ("DLCO on total abnormal and covariates together", "regression"),
    ("Correlation with further columns", "outcomes"),
)
#: Columns of a correlation that a page has room for, the intervals beside their values.
CORRELATION_HEAD = (
    "measure",
    "n",
    "r",
    "r 95 % CI",
    "r²",
    "r² 95 % CI",
    "p",
    "Spearman",
    "Spearman 95 % CI",
    "Spearman p",
)
WIDTH = 52  # characters of a cell

NOTES = (
    "Pearson's r with Fisher's interval, Spearman's rho with that of Bonett and Wright (2000); no correction for "
    "the number of measures. Groups: Kruskal-Wallis, then Dunn's test with Holm's correction within each measure."
)


def html_page(cohort: Cohort, tables: Mapping[str, Table], pictures: Mapping[str, bytes]) -> str:
    """Return an HTML page that needs no other file."""
    left = "".join(f"<li>{html.escape(one)}</li>" for one in cohort.left_out)
    parts = [
        f"<h1>V/Q fractions and DLCO: {len(cohort.cases)} cases</h1>",
        f"<p class=limits>{html.escape(RESEARCH_USE)}</p>",
        "".join(f"<p>{html.escape(line)}</p>" for line in _made_with(cohort)),
        f"<h2>Left out</h2><ul>{left}</ul>" if left else "",
        "<h2>Correlation with DLCO</h2>",
        _html_table(tables["correlations"]),
        *(f"<h2>{title}</h2>{_html_table(tables[name])}" for title, name in FURTHER if len(tables[name]) > 1),
        "".join(_picture(data, name) for name, data in pictures.items() if name != "groups"),
        "<h2>Groups</h2>" if "groups" in pictures else "",
        _picture(pictures["groups"], "groups")
        + _html_table(tables["group_values"])
        + _html_table(tables["groups"])
        if "groups" in pictures
        else "",
        f"<p>{html.escape(NOTES)}</p>",
        "<h2>Cases: perfusion, ventilation, V/Q classes</h2>",
        "".join(_panel(case) for case in cohort.cases[:PANELS]),
        f"<p>{html.escape(_unseen(cohort))}</p>",
        "<h2>Every measure, both lungs</h2>",
        f"<div class=wide>{_html_table(tables['cases'])}</div>",
        f"<p>{html.escape(_unlisted(cohort))}</p>",
    ]
    style = (
        "body{font:15px/1.5 sans-serif;max-width:1180px;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse;font-size:13px;margin:1em 0}"
        "td,th{padding:2px 8px;border-bottom:1px solid #ccc;white-space:nowrap;text-align:left}"
        "img{max-width:100%}.fig{width:48%}.wide{overflow-x:auto}.limits{color:#a03000}"
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


def _made_with(cohort: Cohort) -> list[str]:
    """Return software and parameters of the cases, with a warning where they are not all the same."""
    found = cohort.settings
    mixed = [
        "Not all cases were made with the same software and parameters: analyse them again before comparing."
    ]
    lines = [f"{n} cases: {settings}" for settings, n in found.items() if settings]
    return mixed * (len(found) > 1) + lines


def _unseen(cohort: Cohort) -> str:
    rest = len(cohort.cases) - PANELS
    return f"{rest} more cases: overview.png in the folder of each." if rest > 0 else ""


def _unlisted(cohort: Cohort) -> str:
    rest = len(cohort.cases) - PANELS
    return f"{rest} more cases: cases.csv." if rest > 0 else ""


def _panel(case: Case) -> str:
    """Return the study's Figure 1 A-C for one case, reduced in size."""
    small = _overview(case, PANEL_PIXELS)
    if small is None:
        return ""
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=80)
    picture = _picture(buffer.getvalue(), case.name, "jpeg")
    return f"<figure>{picture}<figcaption>{html.escape(_caption(case))}</figcaption></figure>"


def _overview(case: Case, pixels: int) -> Image.Image | None:
    path = case.folder / "overview.png"
    if not path.is_file():
        return None
    with Image.open(path) as image:
        left, top, right, low = (share * side for share, side in zip(PLANES, image.size * 2, strict=True))
        small = image.convert("RGB").crop((round(left), round(top), round(right), round(low)))
    small.thumbnail((pixels, pixels))
    return small


def _caption(case: Case) -> str:
    words = f"{case.name}: total abnormal {case.measures['total_abnormal']:.1f} %, DLCO {case.dlco:.0f} %"
    return words + (f", {case.group}" if case.group else "")


def text_pages(cohort: Cohort, tables: Mapping[str, Table]) -> Iterator[Figure]:
    """Yield the tables as pages of a PDF, A4 landscape; short ones stand on one page."""
    lines = [line for text in (*_made_with(cohort), *cohort.left_out) for line in wrap(text, 170)]
    figure = _page(f"V/Q fractions and DLCO: {len(cohort.cases)} cases", lines)
    top = TOP - 0.02 * min(len(lines), LINES + 1) - GAP  # where the next title stands
    titles = (*FURTHER, ("Groups", "group_values"), ("Groups compared", "groups"))
    titled = [("Correlation with DLCO", _narrow(tables["correlations"]))]
    for title, table in (*titled, *((title, tables[name]) for title, name in titles)):
        for part in _parts(table):
            height = TITLE + LINE * sum(map(_lines, part))
            if top - height < BOTTOM:
                yield figure
                figure, top = _page("", ()), TOP
            figure.text(0.05, top, title, fontsize=11, weight="bold")
            _draw(figure, part, top - TITLE)
            top -= height + GAP
    yield figure


def _parts(table: Table) -> Iterator[Table]:
    """Yield a table in parts that fit on a page, each below the head; nothing of one without rows."""
    head, *rows = table
    part: Table = []
    for row in rows:
        if part and sum(map(_lines, (head, *part, row))) > TABLE_LINES:
            yield [head, *part]
            part = []
        part.append(row)
    if part:
        yield [head, *part]


def _wrapped(cell: str) -> str:
    return "\n".join(f" {line} " for line in wrap(cell, WIDTH))


def _lines(row: Sequence[str]) -> int:
    return max(_wrapped(cell).count("\n") + 1 for cell in row)


def panel_pages(cohort: Cohort) -> Iterator[Figure]:
    """Yield pages of the cases' perfusion, ventilation and classes, six cases to a page."""
    seen = [(case, small) for case in cohort.cases[:PANELS] if (small := _overview(case, PANEL_PIXELS // 2))]
    for start in range(0, len(seen), PANELS_A_PAGE):
        figure = _page("Cases: perfusion, ventilation, V/Q classes", ())
        for n, (case, small) in enumerate(seen[start : start + PANELS_A_PAGE]):
            axes = figure.add_axes((0.04 + 0.315 * (n % 3), 0.52 - 0.43 * (n // 3), 0.3, 0.38))
            axes.imshow(small)
            axes.set_axis_off()
            axes.set_title(_caption(case), fontsize=7)
        yield figure


def _page(title: str, lines: Sequence[str]) -> Figure:
    figure = Figure(figsize=(11.69, 8.27))
    figure.text(0.05, 0.94, title, fontsize=15, weight="bold")
    figure.text(0.05, 0.05, RESEARCH_USE, fontsize=8, color="#a03000")
    figure.text(0.05, 0.03, NOTES, fontsize=6.5)
    rest = len(lines) - LINES
    shown = [*lines[:LINES], *([f"… and {rest} more lines: see report.html"] if rest > 0 else [])]
    for n, line in enumerate(shown):
        figure.text(0.05, 0.905 - 0.02 * n, line, fontsize=8)
    return figure


def _narrow(table: Table) -> Table:
    """Return the correlations as a page has room for; a measure without one says why in its first column."""
    head, *rows = table
    places = [head.index(name) for name in CORRELATION_HEAD]
    out = [list(CORRELATION_HEAD)]
    for row in rows:
        cells = [row[place] for place in places]
        out.append([f"{cells[0]}: {row[-1]}" if row[-1] else cells[0], *cells[1:]])
    return out


def _draw(figure: Figure, table: Table, top: float) -> None:
    axes = figure.add_axes((0.05, BOTTOM, 0.92, top - BOTTOM))
    axes.set_axis_off()
    width = max(len(row) for row in table)
    cells = [[_wrapped(cell) for cell in row] + [""] * (width - len(row)) for row in table]
    drawn = axes.table(cells, loc="upper left", cellLoc="left")
    drawn.AXESPAD = 0
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    drawn.auto_set_column_width(list(range(width)))
    for (row, _), cell in drawn.get_celld().items():
        cell.PAD = 0.02  # of the column's width; the spaces around the words are the same in all
        cell.set_linewidth(0.3)
        cell.set_height(LINE * _lines(table[row]) / (top - BOTTOM))
        if row == 0:
            cell.set_facecolor("#eeeeee")
