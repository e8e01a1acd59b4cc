"""A table of DLCO, and one of reference values, as CSV -> rows; what is wrong, by line."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from analysis.cohort.gas_transfer import Reference, check_gli
from analysis.errors import AnalysisError

from ..errors import Rejected

#: A value of percent predicted above this is taken for a typing error.
PLAUSIBLE = (5.0, 250.0)


@dataclass(frozen=True)
class Row:
    """Hold one line of the table of DLCO."""

    line: int
    case: str
    dlco: float | None
    group: str


def read_table(path: Path, references: Mapping[str, Reference] | None = None) -> list[Row]:
    """Read the lines of a table of DLCO; see `read_cohort`."""
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
                raise Rejected(f"{case!r} is not a valid name of a case")
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
    """Read reference values by sex, M and F, and check them against those GLI has published; see `read_cohort`."""
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
    try:
        check_gli(found)
    except AnalysisError as error:
        raise Rejected(f"{path.name}: {error}") from error
    return found


def _csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read the columns, and (line number, cells by column) of every line that is not empty."""
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
        value = float(line[name].replace(",", "."))  # a table separated by semicolons may have decimal commas
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
