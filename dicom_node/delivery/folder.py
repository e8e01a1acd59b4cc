"""Parcels -> files of a folder: the sender of the kind `folder`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import Unavailable
from ..settings.destinations import Destination
from ..store.durable import make_folder, write_file
from .outcome import Outcome, Parcel


def send(
    parcels: Sequence[Parcel], destination: Destination, _calling_ae_title: str
) -> Iterator[tuple[Parcel, Outcome]]:
    """Each object as ``<folder>/<SOP Instance UID>.dcm``, whole or not there; drafts lie in ``.drafts``."""
    folder = destination.folder or Path()
    for parcel in parcels:
        try:
            if not folder.is_dir():  # not made here: an absent mount must not become a folder on this disk
                raise Unavailable(f"the folder {folder} is not there")
            drafts = make_folder(folder / ".drafts")
            write_file(folder / f"{parcel.sop_instance_uid}.dcm", [parcel.path.read_bytes()], drafts)
        except Unavailable as error:
            yield parcel, Outcome("later", str(error))
        else:
            yield parcel, Outcome("sent", "written")
