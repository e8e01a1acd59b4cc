"""Folders, zip archives and files -> the headers of every DICOM image in them, and what was left out, and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..dicom.archives import Unpacked, kind_of, unpack
from ..dicom.headers import read_header
from ..errors import Rejected
from ..model import Header

#: How many reasons for leaving out files a refusal lists.
MOST_REASONS = 5


@dataclass(frozen=True)
class Pile:
    """Hold what was found on disk.

    Attributes
    ----------
    headers : tuple of Header
        One for every SOP instance, each once.
    paths : dict of SOP Instance UID to Path
    others : mapping of str to int
        Reason -> number of files left out for it.
    """

    headers: tuple[Header, ...]
    paths: dict[str, Path]
    others: Mapping[str, int]

    @property
    def left_out(self) -> str:
        """Return the end of a refusal: how many files were left out for which reason, the most frequent first."""
        found = sorted(self.others.items(), key=lambda item: -item[1])
        told = [f"{count} file{'s' * (count > 1)}: {reason}" for reason, count in found[:MOST_REASONS]]
        if len(found) > MOST_REASONS:
            told.append(f"{sum(count for _, count in found[MOST_REASONS:])} files for other reasons")
        return f" ({'; '.join(told)})" if told else ""


def gather(source: Path, workspace: Path, study: str = "") -> Pile:
    """Read the headers of every DICOM file below a folder, in zip archives, or of one file.

    Parameters
    ----------
    source : Path
    workspace : Path
        Where archives are unpacked, each into a folder of its own.
    study : str
        Study Instance UID: where it is given, images of other studies are passed over.

    Raises
    ------
    Rejected
        Where there is no file, or no DICOM; the message says how many files were left out, and why.
    """
    headers: dict[str, Header] = {}
    paths: dict[str, Path] = {}
    others: Counter[str] = Counter()
    for path in _files(source, workspace, others):
        try:
            header = read_header(path)
        except Rejected as error:
            others[_reason(str(error))] += 1
            continue
        if study and header.study_instance_uid != study:
            continue
        uid = header.sop_instance_uid
        if uid in headers and header != headers[uid]:
            others["has the SOP Instance UID (0008,0018) of another file and other content"] += 1
            continue
        headers.setdefault(uid, header)
        paths.setdefault(uid, path)
    pile = Pile(tuple(headers.values()), paths, others)
    if not headers:
        raise Rejected(f"no DICOM image in {source}{pile.left_out}")
    return pile


def joined(piles: Sequence[Pile]) -> Pile:
    """Return several piles as one."""
    headers = {header.sop_instance_uid: header for pile in piles for header in pile.headers}
    paths = {uid: path for pile in piles for uid, path in pile.paths.items()}
    return Pile(tuple(headers.values()), paths, sum((Counter(pile.others) for pile in piles), Counter()))


def _reason(sentence: str) -> str:
    """Return why a file is left out without naming it, so that files with the same reason can be counted."""
    return re.sub(r"^SOP instance (of unknown UID|\S+) ", "", sentence)


def _files(source: Path, workspace: Path, others: Counter[str]) -> Iterator[Path]:
    if not source.exists():
        raise Rejected(f"{source} does not exist")
    unpacked = Unpacked()
    for n, path in enumerate(sorted(source.rglob("*")) if source.is_dir() else [source]):
        if not path.is_file() or path.name == "DICOMDIR":
            continue
        if not kind_of(path) and path.suffix.lower() != ".zip":
            yield path
            continue
        try:
            # whole, before any file is read: what a damaged archive gave up to its damage is a part of a series
            found = list(unpack(path, workspace / str(n), unpacked))
        except Rejected as error:
            if path == source:
                raise
            others[str(error)] += 1
            continue
        for one in found:
            if kind := kind_of(one):
                others[f"is a {kind} archive in {path.name}: unpack it"] += 1
            else:
                yield one
