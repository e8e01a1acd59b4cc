"""Every kind of destination -> how results are sent to it: one row a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..settings.destinations import CStoreDestination, Destination, FolderDestination, StowRsDestination
from ..store.database import Database
from . import folder, storage_commitment, store_scu, stow_rs
from .outcome import Outcome, Parcel


@dataclass(frozen=True)
class Sender:
    """How results are sent to one kind of destination; each callable is given the destination's own dataclass.

    Parameters
    ----------
    send : callable
        Parcels, the destination, the AE title of this node -> what came of each parcel that was tried.
    probe : callable
        The destination, the AE title -> "" where it would take something now, or why not.
    confirm : callable, optional
        Asks the destination to commit to what was sent, where it is to.
    """

    send: Callable[[Sequence[Parcel], Any, str], Iterator[tuple[Parcel, Outcome]]]
    probe: Callable[[Any, str], str]
    confirm: Callable[[Database, Any, str], None] | None = None


SENDERS: Mapping[type[Destination], Sender] = {
    CStoreDestination: Sender(store_scu.send, store_scu.echo, storage_commitment.ask),
    StowRsDestination: Sender(stow_rs.send, stow_rs.probe),
    FolderDestination: Sender(folder.send, folder.probe),
}
