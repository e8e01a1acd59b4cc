"""Parcels -> files of a folder: the sender of the kind `folder`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from ..errors import Unavailable
from ..settings.destinations import FolderDestination
from ..store.durable import make_folder, write_file
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
            write_file(folder / f"{parcel.sop_instance_uid}.dcm", [parcel.path.read_bytes()], drafts)
        except Unavailable as error:
            yield parcel, Outcome("later", str(error))
        else:
            yield parcel, Outcome("sent", "written")


def probe(destination: FolderDestination, _calling_ae_title: str) -> str:
    """Return "" where the folder can be written to, else why not."""
    writable = os.access(destination.folder, os.W_OK | os.X_OK)
    return "" if writable else f"{destination.folder} is not a folder that can be written to"
