"""Parcels -> files of a folder: the sender of the kind `folder`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import Unavailable
from ..settings.destinations import FolderDestination
from ..store.durable import make_folder, name_files, sync_folders, write_draft
from .outcome import Outcome, Parcel


def send(
    parcels: Sequence[Parcel], destination: FolderDestination, _calling_ae_title: str
) -> Iterator[tuple[Parcel, Outcome]]:
    """Write each object as ``<folder>/<SOP Instance UID>.dcm``, completely or not at all; drafts lie in ``.drafts``."""
    folder = destination.folder
    for parcel in parcels:
        try:
            if not folder.is_dir():  # not created here: a missing mount must not become a folder on this disk
                raise Unavailable(f"the folder {folder} is not there")
            drafts = make_folder(folder / ".drafts")
            draft = write_draft([parcel.path.read_bytes()], drafts)
            _give(draft, destination)
            name_files([(draft, folder / f"{parcel.sop_instance_uid}.dcm")])
            sync_folders({folder})
        except Unavailable as error:
            yield parcel, Outcome("later", str(error))
        else:
            yield parcel, Outcome("sent", "written")


def _give(draft: Path, destination: FolderDestination) -> None:
    """Give a file the group and the permissions that the settings say, before it has its name."""
    try:
        if destination.group:
            shutil.chown(draft, group=destination.group)
        draft.chmod(destination.bits)
    except (OSError, LookupError) as error:
        draft.unlink(missing_ok=True)
        why = error.strerror if isinstance(error, OSError) else "there is no such group"
        raise Unavailable(f"files cannot be given to the group {destination.group}: {why}") from error


def probe(destination: FolderDestination, _calling_ae_title: str) -> str:
    """Return "" where the folder can be written to, else why not."""
    writable = os.access(destination.folder, os.W_OK | os.X_OK)
    return "" if writable else f"{destination.folder} is not a folder that can be written to"
