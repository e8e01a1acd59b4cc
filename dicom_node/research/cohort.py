"""A folder of results and a table of DLCO -> the cases that have both; what was left out, and why."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydicom import dcmread

from ..dicom.malformed import MALFORMED
from ..errors import Rejected
from ..results.measures_file import NAME as MEASURES
from ..results.measures_file import Measured, read_measured
from ..results.record import NAME as RECORD
from .cohort_table import Row, read_reference, read_table

#: Attributes of a folder's DICOM results by which a table may name its case, besides the folder's name.
NAMES = ("StudyInstanceUID", "PatientID", "AccessionNumber")


class Packed(Mapping[str, float]):
    """A mapping of names to numbers that shares its names with all others of the same names: a tenth of a dict's size.

    Parameters
    ----------
    values : mapping of str to float
    """

    __slots__ = ("_numbers", "_places")
    _known: ClassVar[dict[tuple[str, ...], dict[str, int]]] = {}

    def __init__(self, values: Mapping[str, float]) -> None:
        names = tuple(values)
        self._places = self._known.setdefault(names, {name: n for n, name in enumerate(names)})
        self._numbers = array("d", values.values())

    def __getitem__(self, name: str) -> float:
        return self._numbers[self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@dataclass(frozen=True)
class Case:
    """Hold one case: its results and its DLCO.

    Attributes
    ----------
    name, group : str
    dlco : float
        Percent predicted.
    measures : mapping of str to float
        Of both lungs.
    folder : Path
    quality : str
        Its worst verdict: pass, warn, fail; "" where the results do not say.
    settings : str
        Software and parameters that made it.
    others : mapping of str to float
        Further columns of the table: covariates and outcomes such as age or FEV1.
    """

    name: str
    group: str
    dlco: float
    measures: Mapping[str, float]
    folder: Path
    quality: str = ""
    settings: str = ""
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cohort:
    """Hold the cases that have results and DLCO, and what was left out, and why."""

    cases: tuple[Case, ...]
    left_out: tuple[str, ...]

    def values(self, measure: str) -> list[float]:
        """Return one value for each case, NaN where it has none."""
        return [float(case.measures.get(measure, float("nan"))) for case in self.cases]

    def other(self, column: str) -> list[float]:
        """Return one value of a further column of the table for each case, NaN where it has none."""
        return [float(case.others.get(column, float("nan"))) for case in self.cases]

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the table's further columns of numbers."""
        return tuple(dict.fromkeys(name for case in self.cases for name in case.others))

    @property
    def settings(self) -> Mapping[str, int]:
        """Count the cases by software and parameters; cases made in different ways cannot be compared as they are."""
        found: dict[str, int] = {}
        for case in self.cases:
            found[case.settings] = found.get(case.settings, 0) + 1
        return found


def read_cohort(results: Path, table: Path, gli: Path | None = None) -> Cohort:
    """Join case folders, as `dicom-node run` or a node writes them, with a table of DLCO.

    Parameters
    ----------
    results : Path
        One folder a case, with measures.json or analysis.npz.
    table : Path
        CSV with a header: ``case`` (the folder's name, the patient's ID, the accession number or the Study Instance
        UID), ``dlco`` (% predicted) or, with `gli`, ``tlco``, ``sex`` (M, F), ``age`` (years) and ``height`` (cm);
        ``group`` if there are groups. An empty value is missing.
    gli : Path, optional
        CSV of reference values (`analysis.cohort.gas_transfer`): sex, age, log_mu, height_power, lambda, sigma.

    Raises
    ------
    Rejected
        Where rows are wrong or double (the message names all of them by line), or no case is left.
    """
    rows = read_table(table, read_reference(gli) if gli else None)
    folders = Folders.of(results)
    left_out, cases, problems = [], [], []
    taken: dict[Path, int] = {}
    for row in rows:
        try:
            folder = folders.find(row.case)
            if folder in taken:
                raise Rejected(f"the results of case {row.case} stand in line {taken[folder]} already")
            if row.dlco is None:
                left_out.append(f"{table.name} line {row.line}: case {row.case} has no DLCO")
            elif folder is None:
                left_out.append(
                    f"{table.name} line {row.line}: case {row.case} has no results in {results.name}"
                )
            else:
                cases.append(_case(row, row.dlco, folder))
        except Rejected as error:
            problems.append(f"line {row.line}: {error}")
            continue
        if folder is not None:
            taken[folder] = row.line
    if problems:
        raise Rejected(f"{table.name}: " + "; ".join(problems))
    left_out += [f"results {name}: no line in {table.name}" for name in folders.others(taken)]
    if not cases:
        raise Rejected(f"no case has both results in {results} and a DLCO in {table}")
    return Cohort(tuple(cases), tuple(left_out))


@dataclass(frozen=True)
class Folders:
    """Hold the folders of results and the names that each may be called by.

    Attributes
    ----------
    by_name : mapping of str to Path
    names : mapping of Path to tuple of str
        Study Instance UID, patient's ID and accession number, as far as a folder has DICOM results.
    """

    by_name: Mapping[str, Path]
    names: Mapping[Path, tuple[str, ...]]

    @classmethod
    def of(cls, results: Path) -> Folders:
        """Find every folder below ``results`` that holds measures, from `dicom-node run` or a node's finished job."""
        found = sorted({path.parent for name in (MEASURES, RECORD) for path in results.glob(f"*/{name}")})
        return cls({folder.name: folder for folder in found}, {folder: _names(folder) for folder in found})

    def find(self, case: str) -> Path | None:
        """Return the folder of a case; the newest, where a node has analysed the study more than once.

        Raises
        ------
        Rejected
            Where results of several studies bear that name.
        """
        if case in self.by_name:
            return self.by_name[case]
        bearers = [folder for folder, names in self.names.items() if case in names]
        studies = {self.names[folder][0] for folder in bearers}
        if len(studies) > 1:
            raise Rejected(f"{case} has results of {len(studies)} studies: name them by Study Instance UID")
        return max(bearers, key=lambda folder: (len(folder.name), folder.name), default=None)

    def others(self, taken: Mapping[Path, int]) -> Iterator[str]:
        """Yield the names of folders that no line names, except older results of a study that was taken."""
        studies = {self.names[folder][0] for folder in taken if self.names[folder]}
        for name, folder in self.by_name.items():
            if folder not in taken and not (self.names[folder] and self.names[folder][0] in studies):
                yield name


def _names(folder: Path) -> tuple[str, ...]:
    """Return the names that the DICOM results of a folder hold; () where there are no such results."""
    for path in sorted(folder.glob("*sr.dcm")):
        try:
            ds = dcmread(path, stop_before_pixels=True, specific_tags=list(NAMES))
        except (OSError, *MALFORMED):
            continue
        return tuple(str(ds.get(name, "")) for name in NAMES)
    return ()


def _case(row: Row, dlco: float, folder: Path) -> Case:
    found = read_measured(folder)
    measures = Packed(found.lungs)
    return Case(
        row.case, row.group, dlco, measures, folder, _worst(found), sys.intern(found.settings), row.others
    )


def _worst(found: Measured) -> str:
    return next((one for one in ("fail", "warn", "pass") if one in found.verdicts), "")
