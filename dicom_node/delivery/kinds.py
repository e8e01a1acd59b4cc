"""The kinds of destination -> how results are sent to each, one row for each kind."""

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
    """The functions that serve one kind of destination; each gets the dataclass of that kind.

    Parameters
    ----------
    send : callable
        Takes parcels, the destination and this node's AE title; yields the outcome of each parcel that was tried.
    probe : callable
        Takes the destination and this node's AE title; returns "" where it would accept objects now, else why not.
    confirm : callable, optional
        Asks the destination to commit to the objects sent, where the settings say so.
    """

    send: Callable[[Sequence[Parcel], Any, str], Iterator[tuple[Parcel, Outcome]]]
    probe: Callable[[Any, str], str]
    confirm: Callable[[Database, Any, str], None] | None = None


SENDERS: Mapping[type[Destination], Sender] = {
    CStoreDestination: Sender(store_scu.send, store_scu.echo, storage_commitment.ask),
    StowRsDestination: Sender(stow_rs.send, stow_rs.probe),
    FolderDestination: Sender(folder.send, folder.probe),
}
