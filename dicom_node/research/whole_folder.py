"""A folder of results appears whole, or not at all; a process that is killed leaves the old one as it was."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import Rejected, Unavailable
from ..results.measures_file import NAME as MEASURES
from ..results.record import NAME as RECORD

#: Below the folder that will hold the results: what is being written, and what a killed process left.
DRAFTS = ".drafts"
#: A draft that nobody has written to for so long (s) was left by a process that was killed.
LEFT_SECONDS = 900.0


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a draft that becomes ``out`` at the end of the block, and is removed where the block raises.

    Parameters
    ----------
    out : Path
        New, empty, or a folder that holds an earlier result, which is replaced.

    Raises
    ------
    Rejected
        Where ``out`` holds anything else.
    Unavailable
        Where it cannot be written.
    """
    check_folder(out)
    drafts = out.absolute().parent / DRAFTS
    draft = drafts / f"{out.name}.{uuid.uuid4().hex[:12]}"
    try:
        draft.mkdir(parents=True)
        yield draft
        _flush(draft)
        _put(draft, out)
    except OSError as error:
        raise Unavailable(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with suppress(OSError):  # others write their drafts there
            drafts.rmdir()


def holds_result(folder: Path) -> bool:
    """Return whether a folder holds a finished result."""
    return (folder / RECORD).is_file() and (folder / MEASURES).is_file()


def remove_left_drafts(results: Path) -> None:
    """Remove the drafts that killed processes left in a folder of results."""
    for draft in (results / DRAFTS).glob("*"):
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > LEFT_SECONDS:
                shutil.rmtree(draft, ignore_errors=True)


def check_folder(out: Path) -> None:
    """Refuse a folder that results cannot be written to: known before an analysis, not after it.

    Raises
    ------
    Rejected
        Where it is a file or holds other files, or nothing can be written beside it.
    """
    if out.exists() and not out.is_dir():
        raise Rejected(f"no results can be written to {out}: it is a file")
    if out.is_dir() and not holds_result(out) and any(out.iterdir()):
        raise Rejected(f"{out} holds other files and no earlier result: name a new or empty folder")
    try:
        parent = out.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise Rejected(f"no results can be written to {out}: {error.strerror}") from error


def _flush(draft: Path) -> None:
    """Have the disk keep every file before the folder gets its name, so that a power cut leaves no empty ones."""
    for path in (draft, *draft.rglob("*")):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _put(draft: Path, out: Path) -> None:
    if holds_result(out):
        earlier = draft.with_name(f"{draft.name}.earlier")
        out.rename(earlier)
        draft.rename(out)
        shutil.rmtree(earlier, ignore_errors=True)
    else:
        draft.rename(out)  # an empty folder is replaced by it
