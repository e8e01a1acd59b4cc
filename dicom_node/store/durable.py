"""Bytes -> a file that survives a power cut: temporary name, fdatasync, rename, directory fsync."""

from __future__ import annotations

import ctypes
import errno
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import Unavailable

FOLDER_MODE = 0o700
FILE_MODE = 0o600
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
#: sync_file_range(2), which Python lacks, and its flag that begins to write and does not wait (Linux).
_SYNC_FILE_RANGE = getattr(ctypes.CDLL(None), "sync_file_range", None)
_BEGIN_TO_WRITE = 2


def make_folder(folder: Path) -> Path:
    """Make `folder` (and its parents) for the owner only, durably.

    Raises
    ------
    Unavailable
        Where the folder cannot be made.
    """
    if folder.is_dir():
        return folder
    try:
        for parent in reversed([folder, *folder.parents]):
            if not parent.exists():
                parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
                _inherit_owner(parent)
                sync_folder(parent.parent)
    except OSError as error:
        raise Unavailable(f"the folder {folder} cannot be made: {error.strerror}") from error
    return folder


def make_folders(folder: Path, names: Iterable[str]) -> None:
    """Make folders in `folder` for the owner only, durably, with one sync for all of them.

    Raises
    ------
    Unavailable
        Where one cannot be made.
    """
    make_folder(folder)
    try:
        for path in (folder / name for name in names):
            if not path.is_dir():
                path.mkdir(mode=FOLDER_MODE, exist_ok=True)
                _inherit_owner(path)
        sync_folder(folder)  # also where another process made them, which may not have come so far
    except OSError as error:
        raise Unavailable(f"the folders in {folder} cannot be made: {error.strerror}") from error


def open_file(path: Path, flags: int) -> int:
    """Open a file, which is made for its owner only where it is missing, and return its descriptor.

    What root makes, by a command, belongs to the owner of the folder it lies in, so that the node can open it.

    Raises
    ------
    OSError
        Where it cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_CREAT, FILE_MODE)
    _inherit_owner(path, descriptor)
    return descriptor


def _inherit_owner(path: Path, descriptor: int | None = None) -> None:
    if os.geteuid() == 0:
        found, folder = os.stat(path if descriptor is None else descriptor), os.stat(path.parent)
        if found.st_uid == 0 and folder.st_uid != 0:
            os.chown(path if descriptor is None else descriptor, folder.st_uid, folder.st_gid)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(target: Path, parts: Sequence[bytes | memoryview], temporary: Path) -> None:
    """Write `parts` as the file `target`, which is either complete under its name or absent.

    Parameters
    ----------
    target : Path
        Path of the file. Its folder must exist; a file of that name is replaced.
    parts : sequence of bytes
        Content, written one part after the other.
    temporary : Path
        Folder for temporary files on the same file system; every call uses a new name there.

    Raises
    ------
    Unavailable
        Where the disk is full or fails; the temporary file is removed then.
    """
    name_files([(write_draft(parts, temporary), target)])
    sync_folders({target.parent})


def write_draft(
    parts: Sequence[bytes | memoryview], temporary: Path, meanwhile: Callable[[], None] = lambda: None
) -> Path:
    """Write `parts` to a new file below `temporary`, whose content is durable but whose name is not yet.

    `meanwhile` is called while the disk writes.

    Raises
    ------
    Unavailable
        Where the disk is full or fails; the file is removed then.
    """
    draft = temporary / uuid.uuid4().hex
    try:
        _write_draft(draft, parts, meanwhile)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise _failing(error) from error
    return draft


def name_files(drafts: Sequence[tuple[Path, Path]]) -> None:
    """Rename each draft to its target, replacing a file of that name; `sync_folders` makes the names durable.

    Raises
    ------
    Unavailable
        Where the disk is full or fails; drafts that are not renamed yet are removed then.
    """
    try:
        for draft, target in drafts:
            draft.rename(target)
    except OSError as error:
        for draft, _ in drafts:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
        raise _failing(error) from error


def sync_folders(folders: Iterable[Path]) -> None:
    """Make the names in several folders durable.

    Raises
    ------
    Unavailable
        Where the disk is full or fails.
    """
    try:
        for folder in folders:
            sync_folder(folder)
    except OSError as error:
        raise _failing(error) from error


def remove(file: Path) -> None:
    """Remove a file durably."""
    file.unlink(missing_ok=True)
    sync_folder(file.parent)


def _failing(error: OSError) -> Unavailable:
    return Unavailable("the disk is full" if error.errno in NO_SPACE else f"the disk fails: {error.strerror}")


def _write_draft(draft: Path, parts: Sequence[bytes | memoryview], meanwhile: Callable[[], None]) -> None:
    descriptor = open_file(draft, os.O_WRONLY | os.O_EXCL)
    with open(descriptor, "wb", buffering=0) as file:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[file.write(rest) :]
        if _SYNC_FILE_RANGE is not None:  # starts writing early; only fdatasync guarantees it
            _SYNC_FILE_RANGE(
                file.fileno(), ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_BEGIN_TO_WRITE)
            )
        meanwhile()
        os.fdatasync(file.fileno())
