"""Instances whose header was not read yet -> their rows, and the studies that must be looked at again."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ..audit.trail import Trail
from ..errors import Unavailable
from ..model import Header
from ..store import tally
from ..store.archive import Archive, Stored, index
from ..store.keys import keyed, keyed_person
from ..store.unread import CRASHES, HANGS, UNREACHABLE
from ..studies import queue as studies
from .header_reader import Reader

LOG = logging.getLogger(__name__)

BATCH = 200
#: Reasons why an image is unread that may pass: it is read again later.
READ_AGAIN = frozenset({UNREACHABLE, CRASHES, HANGS})


def index_new(
    archive: Archive,
    reader: Reader[Header],
    trail: Trail,
    quiet: float,
    key: bytes,
    peers: Collection[str] = (),
) -> None:
    """Read the headers of new instances and make their studies due.

    Instances that arrive meanwhile wait for the next tick, since writing few rows at a time would slow receiving down.

    Parameters
    ----------
    quiet : float
        Time without new images after which a study is looked at (s).
    key : bytes
        Key of the digests of patients.
    peers : collection of str
        AE titles that the configuration names; what others sent is counted together.

    Raises
    ------
    Unavailable
        Where the database cannot be reached, the storage is not mounted, or the reader does not start; nothing is
        lost then.
    """
    while new := archive.unindexed(BATCH):
        read = [_keyed(found, key) for found in reader.read_all([stored.path for stored in new])]
        if UNREACHABLE in read:
            archive.present()  # where the storage is away, no image is to blame
        try:
            _record(archive, trail, new, read, quiet, peers)
        except Unavailable:
            raise
        except Exception:  # one row that the database refuses must not keep the others unread
            LOG.exception("a batch of %d headers cannot be written: one at a time", len(new))
            _record_one_by_one(archive, trail, new, read, quiet, peers)
        if len(new) < BATCH:
            return


def _keyed(found: Header | str, key: bytes) -> Header | str:
    if isinstance(found, str):
        return found
    return replace(found, person=keyed_person(key, found.person), accession=keyed(key, found.accession))


def _record_one_by_one(
    archive: Archive,
    trail: Trail,
    new: Sequence[Stored],
    read: Sequence[Header | str],
    quiet: float,
    peers: Collection[str],
) -> None:
    """Write each header in a transaction of its own, and record one that fails as a problem of its instance."""
    for stored, found in zip(new, read, strict=True):
        try:
            _record(archive, trail, [stored], [found], quiet, peers)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001  its text may quote values that must not be logged
            why = f"its header cannot be kept ({type(error).__name__})"
            _record(archive, trail, [stored], [why], quiet, peers)


def _record(
    archive: Archive,
    trail: Trail,
    new: Sequence[Stored],
    read: Sequence[Header | str],
    quiet: float,
    peers: Collection[str],
) -> None:
    """Record, in one transaction, the header of each instance or why it cannot be read."""
    changed: dict[str, float] = {}
    came: dict[tuple[str, str], Counter[str]] = {}
    instances, octets = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    unreadable = Counter[tuple[str, str]]()
    for stored, found in zip(new, read, strict=True):
        if (
            not isinstance(found, str) or found not in READ_AGAIN
        ):  # else counted when it is known what they are
            peer = tally.known(stored.calling_ae, peers)
            instances[peer, "unreadable" if isinstance(found, str) else "read"] += 1
            octets[peer, ""] += stored.size
        if isinstance(found, str):
            unreadable[stored.calling_ae, found] += 1
            continue
        came.setdefault((stored.calling_ae, found.study_instance_uid), Counter())[found.sop_class_uid] += 1
        if found.concerns_pairing:
            last = changed.get(found.study_instance_uid, 0.0)
            changed[found.study_instance_uid] = max(last, stored.received_at)
    with archive.database.writing() as connection:
        found_by_uid = {s.sop_instance_uid: r for s, r in zip(new, read, strict=True)}
        renamed = index(archive.database, connection, found_by_uid)
        for (calling_ae, study_uid), counts in came.items():
            trail.transferred(connection, "import", calling_ae, study_uid, counts)
        for study_uid, at in changed.items():
            studies.touch(archive.database, connection, study_uid, at, quiet)
        tally.add_all(connection, "instances", instances)
        tally.add_all(connection, "bytes", octets)
    for (sender, why), count in unreadable.items():  # a line a reason, not a line an instance
        LOG.warning("%d instances of %s cannot be read: %s", count, sender, why)
    _tell_renamed(renamed, {stored.sop_instance_uid: stored.calling_ae for stored in new})


def _tell_renamed(renamed: Sequence[str], senders: Mapping[str, str]) -> None:
    """Log one line for each sender instead of one for each instance."""
    for sender, count in Counter(senders[uid] for uid in renamed).items():
        first = next(uid for uid in renamed if senders[uid] == sender)
        LOG.warning(
            "%d instances of %s came under another SOP Instance UID (0000,1000) than their data sets have"
            " (0008,0018), the first as %s: the data set's is used", count, sender, first,
        )  # fmt: skip
