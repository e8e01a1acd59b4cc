"""A cohort -> statistics against DLCO: tables as CSV, figures, a page of HTML that needs no other file, and a PDF."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from analysis.cohort.figures import boxes, p_text, scatter
from analysis.cohort.regression import partial_correlation, regress
from analysis.cohort.statistics import Correlation, GroupComparison, Interval, compare_groups, correlate
from analysis.errors import AnalysisError
from analysis.measures.table import MEASURES

from .cohort import Cohort
from .cohort_pages import CORRELATION_HEAD, PANELS, Table, html_page, panel_pages, text_pages

FRACTIONS = ("total_abnormal", "shunt", "dead_space", "matched_defect")
#: Measures from the literature to compare the fractions with: emphysema, heterogeneity of Q, air trapping.
COMPARATORS = ("laa950", "cv_q", "h_q", "mld_ratio", "volume_ratio")
DLCO = "DLCO, % predicted"


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
        "correlations": _correlations_table(found),
        "adjusted": _adjusted_table(cohort),
        "regression": _regression_table(cohort),
        "outcomes": _outcomes_table(cohort),
        "groups": _groups_table(groups),
        "group_values": _group_values_table(cohort, groups),
    }
    files = [_write(out / f"{name}.csv", table) for name, table in tables.items() if len(table) > 1]
    files.append(_write(out / "cases.csv", _case_rows(cohort)))
    tables["cases"] = list(islice(_case_rows(cohort), PANELS + 1))  # the reports show no more of them
    pictures = {}
    for name, figure in figures.items():
        files.append(out / f"{name}.png")
        figure.savefig(files[-1], dpi=150)
        pictures[name] = files[-1].read_bytes()
    files.append(out / "report.html")
    files[-1].write_text(html_page(cohort, tables, pictures), encoding="utf-8")
    files.append(out / "report.pdf")
    with PdfPages(files[-1], metadata={"Title": "V/Q cohort report"}) as pdf:
        for figure in chain(text_pages(cohort, tables), figures.values(), panel_pages(cohort)):
            pdf.savefig(figure)
    return files


def correlations(cohort: Cohort) -> dict[str, Correlation | str]:
    """Correlate each fraction and comparator with DLCO; where that is not possible, give the reason instead."""
    dlco = [case.dlco for case in cohort.cases]
    found: dict[str, Correlation | str] = {}
    for name in (*FRACTIONS, *COMPARATORS):
        try:
            found[name] = correlate(cohort.values(name), dlco)
        except AnalysisError as error:
            found[name] = str(error)
    return found


def group_comparisons(cohort: Cohort) -> dict[str, GroupComparison]:
    """Compare each fraction between the groups; empty where there are not two groups of two cases."""
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


#: Short names of measures whose own name is long.
TITLES = {"laa950": "LAA-950", "cv_q": "CV of Q", "h_q": "H of Q", "mld_ratio": "E/I of mean density",
          "volume_ratio": "E/I of volume"}  # fmt: skip


def _title(name: str) -> str:
    return TITLES.get(name, name.replace("_", " ").capitalize())


def _write(path: Path, rows: Iterable[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def _case_rows(cohort: Cohort) -> Iterator[list[str]]:
    """Yield the table of all cases row by row: that of ten thousand is never held as a whole."""
    names, columns = list(MEASURES), cohort.columns
    yield ["case", "group", "dlco", "quality", *columns, *names]
    for case in cohort.cases:
        others = (f"{case.others[name]:.6g}" if name in case.others else "" for name in columns)
        values = (f"{case.measures.get(name, math.nan):.6g}" for name in names)
        yield [case.name, case.group, f"{case.dlco:.6g}", case.quality, *others, *values]


def _correlations_table(found: Mapping[str, Correlation | str]) -> Table:
    rows = [[*CORRELATION_HEAD, "slope", "intercept", "note"]]
    for name, one in found.items():
        if isinstance(one, str):  # the reason stands in the last column, where it widens no other
            rows.append([_words(name), *[""] * (len(rows[0]) - 2), one])
            continue
        rows.append(
            [
                *(_words(name), str(one.n), *_interval(one.r), *_interval(one.r2), f"{one.p:.3g}"),
                *(*_interval(one.rho), f"{one.rho_p:.3g}", f"{one.slope:.4g}", f"{one.intercept:.4g}", ""),
            ]
        )
    return rows


#: Columns of the table that the fractions' correlation with DLCO is adjusted for, where they are there.
COVARIATES = ("age", "sex", "height", "weight", "bmi", "pack_years")


def _covariates(cohort: Cohort) -> dict[str, list[float]]:
    """Return the covariates that vary over the cases."""
    found = {name: cohort.other(name) for name in COVARIATES if name in cohort.columns}
    return {name: values for name, values in found.items() if len({v for v in values if v == v}) > 1}


def _adjusted_table(cohort: Cohort) -> Table:
    """Partial correlations of the fractions and comparators with DLCO, adjusted for all covariates."""
    covariates = _covariates(cohort)
    rows = [["measure", "n", "partial r", "95 % CI", "p", "adjusted for", "note"]]
    for name in (*FRACTIONS, *COMPARATORS) if covariates else ():
        words = ", ".join(covariates)
        try:
            one = partial_correlation(cohort.values(name), [c.dlco for c in cohort.cases], covariates)
            rows.append([_title(name), str(one.n), *_interval(one.r), f"{one.p:.3g}", words, ""])
        except AnalysisError as error:
            rows.append([_title(name), "", "", "", "", words, str(error)])
    return rows


def _regression_table(cohort: Cohort) -> Table:
    """DLCO regressed on total abnormal and all covariates together."""
    covariates = _covariates(cohort)
    rows = [["DLCO on", "slope", "95 % CI", "beta", "p", "note"]]
    if not covariates:
        return rows
    measures = {"Total abnormal": cohort.values("total_abnormal"), **covariates}
    try:
        found = regress([case.dlco for case in cohort.cases], measures)
    except AnalysisError as error:
        return [*rows, ["all together", "", "", "", "", str(error)]]
    for name, one in found.coefficients.items():
        slope = f"{one.slope.value:.4g}", f"{one.slope.low:.4g} to {one.slope.high:.4g}"
        rows.append([name, *slope, f"{one.beta:+.3f}", f"{one.p:.3g}", ""])
    note = f"n {found.n}, r² {found.r2:.3f}, adjusted r² {found.adjusted_r2:.3f}"
    return [*rows, ["all together", "", "", "", f"{found.p:.3g}", note]]


def _outcomes_table(cohort: Cohort) -> Table:
    """Correlations of the fractions with the table's further columns, such as FEV1 or the six-minute walk."""
    rows = [["measure", "with", "n", "r", "95 % CI", "p", "Spearman", "Spearman p", "note"]]
    for column in cohort.columns:
        for name in FRACTIONS if column not in COVARIATES else ():
            try:
                one = correlate(cohort.values(name), cohort.other(column))
            except AnalysisError as error:
                rows.append([_title(name), column, *[""] * 6, str(error)])
                continue
            values = *_interval(one.r), f"{one.p:.3g}", f"{one.rho.value:.3f}", f"{one.rho_p:.3g}"
            rows.append([_title(name), column, str(one.n), *values, ""])
    return rows


def _interval(one: Interval) -> tuple[str, str]:
    return f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}"


def _groups_table(groups: Mapping[str, GroupComparison]) -> Table:
    rows = [["measure", "comparison", "test", "statistic", "p", "effect size", "its name"]]
    for name, one in groups.items():
        whole = f"{one.h:.3f}", f"{one.p:.3g}", f"{one.epsilon2:.3f}"
        rows.append([_title(name), "all groups", "Kruskal-Wallis H", *whole, "epsilon²"])
        for pair in one.pairs:
            values = f"{pair.z:.3f}", f"{pair.p:.3g}", f"{pair.delta:.3f}"
            rows.append([_title(name), f"{pair.a} - {pair.b}", "Dunn z, Holm", *values, "Cliff's delta"])
    return rows


def _group_values_table(cohort: Cohort, groups: Mapping[str, GroupComparison]) -> Table:
    rows = [["measure", "group", "n", "median, %", "quartiles, %"]]
    for name in groups:
        for group, values in _by_group(cohort, name).items():
            low, middle, high = np.nanpercentile(values, [25, 50, 75])
            n = int(np.isfinite(values).sum())
            rows.append([_title(name), group, str(n), f"{middle:.1f}", f"{low:.1f} to {high:.1f}"])
    return rows


def summary(found: Mapping[str, Correlation | str]) -> list[tuple[str, str]]:
    """Return rows (measure, r² with its interval and p) for a terminal."""
    rows = []
    for name, one in found.items():
        if isinstance(one, str):
            rows.append((_title(name), one))
            continue
        r2 = f"r² {one.r2.value:.2f} ({one.r2.low:.2f}–{one.r2.high:.2f})"
        rows.append((_title(name), f"{r2}, r {one.r.value:+.2f}, {p_text(one.p)}"))
    return rows
