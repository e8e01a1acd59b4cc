"""A table of DLCO, and one of reference values, as CSV -> rows; what is wrong, by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from analysis.cohort.gas_transfer import Reference, check_gli
from analysis.errors import AnalysisError

from ..errors import Rejected
from .cases import read_csv

#: A value of percent predicted above this is taken for a typing error.
PLAUSIBLE = (5.0, 250.0)
#: In place of a table of reference values: the optional package that has them, and its ages (years: from, to, step).
PACKAGE = "pyspiro"
AGES = (5.0, 80.25, 0.25)
#: Columns that are no measures of a patient: those with a meaning of their own, and those that `batch` writes.
NOT_MEASURES = frozenset({"case", "dlco", "tlco", "group", "state", "reason", "seconds"})
#: Numbers for the sexes, because they take part in regressions.
SEX: Mapping[str, float] = {"m": 0.0, "f": 1.0}


@dataclass(frozen=True)
class Row:
    """Hold one line of the table of DLCO."""

    line: int
    case: str
    dlco: float | None
    group: str
    others: Mapping[str, float] = field(default_factory=dict)


def read_table(path: Path, references: Mapping[str, Reference] | None = None) -> list[Row]:
    """Read the lines of a table of DLCO; see `read_cohort`."""
    columns, lines = read_csv(path)
    needed = ("case", "dlco") if references is None else ("case", "tlco", "sex", "age", "height")
    if missing := [name for name in needed if name not in columns]:
        raise Rejected(f"{path.name} has no column {', '.join(missing)}; it has {', '.join(columns)}")
    numeric = [name for name in columns if name not in NOT_MEASURES and _is_numeric(name, lines)]
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
            others = {name: value for name in numeric if (value := _other(line, name)) is not None}
            rows.append(Row(number, case, _dlco(line, references), line.get("group", ""), others))
        except (Rejected, AnalysisError) as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise Rejected(f"{path.name}: " + "; ".join(problems))
    return rows


def read_reference(path: Path) -> dict[str, Reference]:
    """Read reference values by sex, M and F, from a file or the package `PACKAGE`, and check them against GLI's own."""
    if str(path) == PACKAGE:
        return _of_package()
    columns, lines = read_csv(path)
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


def _of_package() -> dict[str, Reference]:
    """Return GLI's values of 2017 (corrected 2020) for TLCO in mmol/min/kPa from the optional package ``pyspiro``."""
    try:
        from pyspiro import GLI_2017
    except ImportError as error:
        raise Rejected("pyspiro is not installed: pip install 'vq-dicom-node[gli]'") from error
    gli = GLI_2017()
    found = {}
    for sex, name in (("M", "MALE"), ("F", "FEMALE")):
        ask = gli.Sex[name].value, gli.Parameters.TLCO.value
        rows = []
        for age in np.arange(*AGES):
            # the logarithm of the median is linear in that of the height: two heights tell both of its numbers
            low, high = (gli.lms(ask[0], float(age), height, ask[1], 1.0) for height in (1.0, np.e))
            rows.append((age, np.log(low[1]), np.log(high[1] / low[1]), low[0], low[2]))
        found[sex] = Reference(*np.array(rows, dtype=np.float64).T)
    check_gli(found)
    return found


def _is_numeric(name: str, lines: Sequence[tuple[int, Mapping[str, str]]]) -> bool:
    """Return whether a column holds a number, or a sex, in every cell that is not empty, and not nothing at all."""
    cells = [line[name] for _, line in lines if line[name]]
    try:
        return bool([_other({name: cell}, name) for cell in cells])
    except Rejected:
        return False


def _other(line: Mapping[str, str], name: str) -> float | None:
    if not line[name]:
        return None
    return SEX[line[name].lower()] if name == "sex" and line[name].lower() in SEX else _float(line, name)


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
