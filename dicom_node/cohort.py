"""A folder of results and a table of DLCO -> the cases that have both; what is wrong, by line."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from analysis.cohort import Reference
from analysis.errors import AnalysisError

from .errors import Rejected

#: Beyond this, percent predicted is a slip of the pen.
PLAUSIBLE = (5.0, 250.0)


@dataclass(frozen=True)
class Row:
    """One line of the table of DLCO."""

    line: int
    case: str
    dlco: float | None
    group: str


@dataclass(frozen=True)
class Case:
    """One case: its results and its DLCO."""

    name: str
    group: str
    dlco: float
    measures: Mapping[str, float]
    folder: Path


@dataclass(frozen=True)
class Cohort:
    """Cases with results and DLCO; what was left out, and why."""

    cases: tuple[Case, ...]
    left_out: tuple[str, ...]

    def values(self, measure: str) -> list[float]:
        """One value a case, NaN where it has none."""
        return [float(case.measures.get(measure, float("nan"))) for case in self.cases]


def read_cohort(results: Path, table: Path, gli: Path | None = None) -> Cohort:
    """Join case folders, as `dicom-node run` writes them, with a table of DLCO.

    Parameters
    ----------
    results : Path
        One folder a case, with measures.json.
    table : Path
        CSV with a header: ``case`` (the folder's name), ``dlco`` (% predicted) or, with `gli`, ``tlco``, ``sex``
        (M, F), ``age`` (years) and ``height`` (cm); ``group`` if there are groups. An empty value is missing.
    gli : Path, optional
        CSV of reference values (`analysis.cohort.Reference`): sex, age, log_mu, height_power, lambda, sigma.

    Raises
    ------
    Rejected
        Where rows are wrong or double: all of them, by line; where nothing is left.
    """
    rows = read_table(table, read_reference(gli) if gli else None)
    left_out, cases = [], []
    for row in rows:
        folder = results / row.case
        if row.dlco is None:
            left_out.append(f"{table.name} line {row.line}: case {row.case} has no DLCO")
        elif not (folder / "measures.json").is_file():
            left_out.append(f"{table.name} line {row.line}: case {row.case} has no results in {results.name}")
        else:
            cases.append(Case(row.case, row.group, row.dlco, _measures(folder), folder))
    known = {row.case for row in rows}
    for folder in sorted(p.parent for p in results.glob("*/measures.json")):
        if folder.name not in known:
            left_out.append(f"results {folder.name}: no line in {table.name}")
    if not cases:
        raise Rejected(f"no case has both results in {results} and a DLCO in {table}")
    return Cohort(tuple(cases), tuple(left_out))


def read_table(path: Path, references: Mapping[str, Reference] | None = None) -> list[Row]:
    """The lines of a table of DLCO; see `read_cohort`."""
    columns, lines = _csv(path)
    needed = ("case", "dlco") if references is None else ("case", "tlco", "sex", "age", "height")
    if missing := [name for name in needed if name not in columns]:
        raise Rejected(f"{path.name} has no column {', '.join(missing)}; it has {', '.join(columns)}")
    rows: list[Row] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, line in lines:
        case = line["case"]
        try:
            if not case or Path(case).name != case:
                raise Rejected(f"{case!r} is no name of a case")
            if case in seen:
                raise Rejected(f"case {case} stands in line {seen[case]} already")
            seen[case] = number
            rows.append(Row(number, case, _dlco(line, references), line.get("group", "")))
        except (Rejected, AnalysisError) as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise Rejected(f"{path.name}: " + "; ".join(problems))
    return rows


def read_reference(path: Path) -> dict[str, Reference]:
    """Reference values by sex, M and F; see `read_cohort`."""
    columns, lines = _csv(path)
    names = ("sex", "age", "log_mu", "height_power", "lambda", "sigma")
    if missing := [name for name in names if name not in columns]:
        raise Rejected(f"{path.name} has no column {', '.join(missing)}")
    found = {}
    for sex in ("M", "F"):
        own = sorted(
            [_number(line, name, number, path) for name in names[1:]]
            for number, line in lines
            if line["sex"] == sex
        )
        if len(own) < 2:
            raise Rejected(f"{path.name} has fewer than two ages of sex {sex}")
        found[sex] = Reference(*np.array(own).T)
    return found


def _csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Columns, and (line number, cells by column) of every line that is not empty."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(f"{path} cannot be read: {error}") from error
    delimiter = ";" if ";" in text.split("\n", 1)[0] else ","
    reader = csv.DictReader(StringIO(text), delimiter=delimiter, restval="", skipinitialspace=True)
    columns = [name.strip().lower() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    lines = []
    for cells in reader:
        if None in cells:
            raise Rejected(f"{path.name} line {reader.line_num}: more cells than columns")
        lines.append((reader.line_num, {name: value.strip() for name, value in cells.items()}))
    return columns, lines


def _dlco(line: Mapping[str, str], references: Mapping[str, Reference] | None) -> float | None:
    if references is None:
        if not line["dlco"]:
            return None
        percent = _float(line, "dlco")
    else:
        if not line["tlco"]:
            return None
        if line["sex"] not in references:
            raise Rejected(f"sex is M or F, not {line['sex']!r}")
        values = [_float(line, name) for name in ("tlco", "age", "height")]
        percent = references[line["sex"]].percent_predicted(*values)
    if not PLAUSIBLE[0] <= percent <= PLAUSIBLE[1]:
        raise Rejected(f"DLCO of {percent:g} % predicted is not plausible")
    return percent


def _float(line: Mapping[str, str], name: str) -> float:
    try:
        value = float(line[name])
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise Rejected(f"{name} is {line[name]!r}, no number")
    return value


def _number(line: Mapping[str, str], name: str, number: int, path: Path) -> float:
    try:
        return _float(line, name)
    except Rejected as error:
        raise Rejected(f"{path.name} line {number}: {error}") from error


def _measures(folder: Path) -> dict[str, float]:
    path = folder / "measures.json"
    try:
        found = json.loads(path.read_text())["measures"]["lungs"]
        return {name: float("nan") if value is None else float(value) for name, value in found.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Rejected(f"{path} holds no measures of both lungs ({type(error).__name__})") from error
