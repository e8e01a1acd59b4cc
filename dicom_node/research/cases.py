"""A table, a tree of folders or a pile of series -> the cases in it: a name, its images, and what else is known."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from io import StringIO
from pathlib import Path
from typing import Any

from analysis.volume.image_files import is_image_file

from ..dicom.archives import kind_of
from ..dicom.headers import read_header
from ..errors import Rejected
from ..model import PairingRules
from ..pairing.phase_names import phases_named
from .given import Given

#: Names of columns -> what they mean; any other column is carried through.
COLUMNS: Mapping[str, str] = {
    "inspiratory": "inspiratory", "inspiration": "inspiratory", "insp": "inspiratory",
    "expiratory": "expiratory", "expiration": "expiratory", "exp": "expiratory",
    "images": "images", "lungs_insp": "lungs_insp", "lungs_exp": "lungs_exp", "field": "field", "lobes": "lobes",
}  # fmt: skip
GIVEN = tuple(f.name for f in fields(Given) if f.name != "lobes_command")
#: Characters that a case's name may have, because it becomes the name of a folder.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@=-]{0,199}")


@dataclass(frozen=True)
class BatchCase:
    """Describe one case of a batch.

    Parameters
    ----------
    name : str
        Name of the folder of its results.
    sources : tuple of Path
        Inspiration and expiration, or one source, or several that hold both.
    given : Given
    study : str
        Study Instance UID of its images, where the sources hold other studies too.
    columns : mapping of str to str
        Further columns of the table, carried through.
    """

    name: str
    sources: tuple[Path, ...]
    given: Given = field(default_factory=Given)
    study: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


def find_cases(source: Path, by_study: bool = False) -> tuple[BatchCase, ...]:
    """Find the cases of a table (``.csv``), of a tree of folders, or of a pile of DICOM sorted by study.

    Parameters
    ----------
    source : Path
        A table with the columns case, inspiratory and expiratory (or images, for both in one place), whose paths are
        relative to its folder; or a folder: BIDS-like ``sub-*/ses-*``, or one folder or archive a case.
    by_study : bool
        Whether the folder is a pile whose DICOM images are sorted by study, wherever they lie.

    Raises
    ------
    Rejected
        Where there is no case, or lines of the table are wrong; the message names all of them.
    """
    if source.is_file() and source.suffix.lower() in (".csv", ".tsv"):
        found = _of_table(source)
    elif not source.is_dir():
        raise Rejected(f"{source} is neither a table (.csv) nor a folder")
    elif by_study:
        found = tuple(_of_pile(source))
    else:
        found = tuple(_of_tree(source))
    if not found:
        raise Rejected(f"{source} holds no case")
    return found


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read the columns of a table in lower case, and (line number, cells by column) of every line that is not empty.

    Commas, semicolons or tabs separate; UTF-8.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise Rejected(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise Rejected(f"{path} is no text in UTF-8: in a spreadsheet, save it as CSV UTF-8") from None
    head = text.split("\n", 1)[0]
    delimiter = next((mark for mark in ("\t", ";") if mark in head), ",")
    reader = csv.DictReader(StringIO(text), delimiter=delimiter, restval="", skipinitialspace=True)
    try:
        columns = [name.strip().lower() for name in reader.fieldnames or []]
        if twice := sorted({name for name in columns if columns.count(name) > 1}):
            raise Rejected(f"{path.name} has the column {', '.join(twice)} twice")
        reader.fieldnames = columns
        lines = []
        for cells in reader:
            if None in cells:
                raise Rejected(f"{path.name} line {reader.line_num}: more cells than columns")
            lines.append((reader.line_num, {name: value.strip() for name, value in cells.items()}))
    except csv.Error as error:
        raise Rejected(f"{path.name} line {reader.line_num + 1}: {error}") from error
    return columns, lines


def _of_table(table: Path) -> tuple[BatchCase, ...]:
    columns, lines = read_csv(table)
    meant = {COLUMNS.get(name, name) for name in columns}
    if "case" not in meant or not ({"inspiratory", "expiratory"} <= meant or "images" in meant):
        raise Rejected(
            f"{table.name} needs the columns case, inspiratory and expiratory (or case and images); it has"
            f" {', '.join(columns)}"
        )
    found, problems, seen = [], [], dict[str, int]()
    for number, cells in lines:
        try:
            case = _of_line(cells, table.parent)
            if case.name in seen:
                raise Rejected(f"case {case.name} stands in line {seen[case.name]} already")
            seen[case.name] = number
            found.append(case)
        except Rejected as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise Rejected(f"{table.name}: " + "; ".join(problems))
    return tuple(found)


def _of_line(cells: Mapping[str, str], folder: Path) -> BatchCase:
    known = {COLUMNS[name]: value for name, value in cells.items() if name in COLUMNS and value}
    others = {name: value for name, value in cells.items() if name not in COLUMNS and name != "case"}
    name = cells["case"]
    if not NAME.fullmatch(name):
        raise Rejected(f"{name!r} is no name of a case: letters, digits and . _ + @ = - are allowed")
    wanted = ("images",) if "images" in known else ("inspiratory", "expiratory")
    if missing := [what for what in wanted if what not in known]:
        raise Rejected(f"{' and '.join(missing)} of case {name} is empty")
    files: dict[str, Any] = {what: folder / known[what] for what in GIVEN if what in known}
    return BatchCase(name, tuple(folder / known[what] for what in wanted), Given(**files), "", others)


def _of_tree(root: Path) -> Iterator[BatchCase]:
    """Yield a case for each ``sub-*/ses-*``, or else for each folder or archive in ``root``."""
    subjects = [path for path in _entries(root) if path.is_dir() and path.name.startswith("sub-")]
    for subject in subjects:
        sessions = [path for path in _entries(subject) if path.is_dir() and path.name.startswith("ses-")]
        for session in sessions or [subject]:
            name = f"{subject.name}_{session.name}" if sessions else subject.name
            yield BatchCase(_folder_name(name), _two_phases(session))
    if not subjects:
        for path in _entries(root):
            if path.is_dir():
                yield BatchCase(_folder_name(path.name), _two_phases(path))
            elif kind_of(path):
                yield BatchCase(_folder_name(path.name.split(".")[0]), (path,))


def _two_phases(folder: Path) -> tuple[Path, ...]:
    """Return inspiration and expiration of a case where names of folders or files tell them; else the folder itself."""
    rules = PairingRules()
    named: dict[str, list[Path]] = {"inspiration": [], "expiration": []}
    candidates = [path for path in folder.rglob("*") if path.is_dir() or is_image_file(path)]
    for path in sorted(candidates):
        phases = phases_named(re.sub(r"[._-]", " ", path.name.split(".")[0]), rules)
        if len(phases) == 1:
            named[next(iter(phases))].append(path)
    insp, exp = named["inspiration"], named["expiration"]
    return (insp[0], exp[0]) if len(insp) == len(exp) == 1 else (folder,)


def _of_pile(root: Path) -> Iterator[BatchCase]:
    """Yield a case for each study; its sources are folders that hold nothing else, and single files of those that do.

    Only the folders' names are kept of a study, not those of its images: thousands of series fit into memory.
    """
    sources: dict[str, list[Path]] = defaultdict(list)
    for folder in (root, *sorted(path for path in root.rglob("*") if path.is_dir())):
        studies: dict[str, list[Path]] = defaultdict(list)
        for path in _entries(folder):
            if path.is_file() and (uid := _study_of(path)):
                studies[uid].append(path)
        for uid, files in studies.items():
            alone = len(studies) == 1 and folder != root and not any(p.is_dir() for p in folder.iterdir())
            sources[uid] += [folder] if alone else files
    for uid, found in sources.items():
        yield BatchCase(uid, tuple(found), study=uid)


def _study_of(path: Path) -> str:
    """Return the Study Instance UID of a DICOM image, "" of any other file."""
    try:
        return "" if kind_of(path) else read_header(path).study_instance_uid
    except Rejected:
        return ""


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _folder_name(text: str) -> str:
    """Return a name that a folder of results may have."""
    return re.sub(r"[^A-Za-z0-9._+@=-]", "_", text).lstrip("._+@=-") or "case"
