"""Bytes of one instance -> a durable file and its row; headers -> the rows of their studies.

A C-STORE may be answered with ``0x0000`` once `Archive.store` has returned: the file is synced and renamed, its name is
synced, and its row is committed. A file is named after the hashes of its UID and of its content, so that
two senders of one UID never write the same file, and a stored instance never changes.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from ..dicom.part10 import file_meta, read_file_meta
from ..model import Header
from ..settings.layout import SHELVES, Layout
from ..strict_json import dump, load
from . import tally
from .database import Database
from .durable import make_folder, make_folders, name_files, remove, sync_folders, write_draft, write_file
from .group_commit import GroupCommit
from .identity import identity_of, present
from .tables import UNINDEXED, data_set_uid, instance, quarantine, study_key
from .tables import member as member_row

LOG = logging.getLogger(__name__)

Outcome = Literal["stored", "same", "other"]

#: Bytes read from a file at one time.
PIECE = 1 << 20


@dataclass(frozen=True)
class Stored:
    """A stored instance whose header has not been read yet."""

    sop_instance_uid: str
    path: Path
    received_at: float
    calling_ae: str
    size: int = 0


@dataclass(frozen=True)
class _Draft:
    """A file whose content is durable, and the row that it will get."""

    draft: Path
    target: Path
    row: dict[str, str | float]


class Archive:
    """The stored instances: files below ``<storage>/archive`` with one row each.

    Parameters
    ----------
    storage : Path
        The node's storage folder; it is made for the owner only where it is missing.
    database : Database
    clock : callable
        Returns the current time (s since 1970).
    member : str
        Name of the node that writes, which has a folder of its own for its drafts.

    Raises
    ------
    Unavailable
        Where the storage is not mounted or cannot be written.
    """

    def __init__(
        self,
        storage: Path,
        database: Database,
        clock: Callable[[], float] = time.time,
        member: str = "",
    ) -> None:
        self.layout, self.database, self.clock = Layout(storage), database, clock
        self._identity = identity_of(database)
        self.present()  # no folder is made below the place where a storage is to be mounted
        self.incoming = make_folder(self.layout.drafts(member))
        self._shelve = GroupCommit(self._shelve_all)
        self._new_row = database.insert(instance).on_conflict_do_nothing()
        for folder in (self.layout.archive, self.layout.quarantine):
            make_folders(folder, SHELVES)

    def present(self) -> None:
        """Check that the storage is mounted.

        Raises
        ------
        Unavailable
            Where it is not.
        """
        present(self.layout, self._identity)

    def store(
        self,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        calling_ae: str,
        dataset: bytes | memoryview,
    ) -> Outcome:
        """Store one instance durably.

        Parameters
        ----------
        sop_class_uid, sop_instance_uid, transfer_syntax_uid : str
            Valid UIDs from the C-STORE command and its presentation context.
        calling_ae : str
        dataset : bytes
            The data set as received, in that transfer syntax.

        Returns
        -------
        {"stored", "same", "other"}
            ``same``: these bytes were stored already, and nothing changed. ``other``: another data set is stored
            under this UID and stays; this one is in quarantine.

        Raises
        ------
        Unavailable
            Where the disk or the database is unavailable; nothing counts as received then.
        """
        head, hashed = file_meta(sop_class_uid, sop_instance_uid, transfer_syntax_uid), hashlib.sha256()
        draft = write_draft([head, dataset], self.incoming, lambda: hashed.update(dataset))
        digest = hashed.hexdigest()
        name = _name(sop_instance_uid, hashlib.sha256(head).digest(), hashed.digest())
        target = self.layout.archive / name
        row: dict[str, str | float] = {
            "sop_instance_uid": sop_instance_uid,
            "sop_class_uid": sop_class_uid,
            "transfer_syntax_uid": transfer_syntax_uid,
            "sha256": digest,
            "size": len(dataset),
            "path": self.layout.relative(target),
            "received_at": self.clock(),
            "calling_ae": calling_ae,
        }
        if self._shelve(_Draft(draft, target, row)):
            return "stored"
        # its UID has a row already: of an identical file, which was replaced, or of a different one
        if self._known(sop_instance_uid) == (digest, transfer_syntax_uid):
            return "same"
        self._quarantine(
            name, [head, dataset], {k: row[k] for k in ("sop_instance_uid", "sha256", "calling_ae")}
        )
        remove(target)
        return "other"

    def sweep(self) -> tuple[int, int]:
        """Tidy up after a crash: remove the drafts of nodes that are gone, adopt whole files that have no row.

        A file without a row was complete and synced but not acknowledged. Adopting it loses nothing, and it makes
        the archive its own backup: rows that were lost with a database come back.

        Returns
        -------
        (int, int)
            Numbers of drafts removed and of files adopted.
        """
        drafts = self._abandoned()
        for draft in drafts:
            draft.unlink(missing_ok=True)
        sync_folders({self.layout.incoming})
        with self.database.reading() as connection:
            known = set(connection.scalars(sa.select(instance.c.path)))
        shelves = (self.layout.archive / shelf for shelf in SHELVES)
        found = {self.layout.relative(file) for shelf in shelves for file in shelf.iterdir()}
        for path in sorted(known - found):
            LOG.error("the file %s is missing", path)
        return len(drafts), sum(self._adopt(self.layout.storage / path) for path in sorted(found - known))

    def unindexed(self, limit: int) -> list[Stored]:
        """Return instances whose header was not read yet, the oldest first."""
        names = "sop_instance_uid", "path", "received_at", "calling_ae", "size"
        columns = [instance.c[name] for name in names]
        query = sa.select(*columns).where(UNINDEXED).order_by(instance.c.received_at).limit(limit)
        with self.database.reading() as connection:
            return [
                Stored(r.sop_instance_uid, self.layout.storage / r.path, r.received_at, r.calling_ae, r.size)
                for r in connection.execute(query)
            ]

    def headers(self, study_uid: str, limit: int | None = None) -> list[Header]:
        """Return the headers read of a study, at most `limit` of them."""
        query = sa.select(instance.c.header).where(
            instance.c.study_uid == study_uid, instance.c.header.is_not(None)
        )
        query = query if limit is None else query.limit(limit)
        with self.database.reading() as connection:
            return [load(Header, text) for text in connection.scalars(query)]

    def paths(self, sop_instance_uids: Iterable[str]) -> dict[str, Path]:
        """Return the files of instances by the SOP Instance UID of their data set.

        Instances are stored under the UID of the C-STORE command, in which a sender may name another one. A data set
        that came under several UIDs is not found, since nothing says which one is meant.
        """
        wanted = list(dict.fromkeys(sop_instance_uids))
        found: dict[str, list[Path]] = defaultdict(list)
        stored = sa.select(instance.c.sop_instance_uid, instance.c.path)
        other = sa.select(data_set_uid.c.uid, instance.c.path).join(
            instance, instance.c.sop_instance_uid == data_set_uid.c.sop_instance_uid
        )
        # leave out a row of that UID whose data set has another UID
        itself = ~sa.exists().where(data_set_uid.c.sop_instance_uid == instance.c.sop_instance_uid)
        with self.database.reading() as connection:
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                for query in (
                    stored.where(instance.c.sop_instance_uid.in_(part), itself),
                    other.where(data_set_uid.c.uid.in_(part)),
                ):
                    for uid, path in connection.execute(query):
                        found[uid].append(self.layout.storage / path)
        return {uid: places[0] for uid, places in found.items() if len(places) == 1}

    def _known(self, sop_instance_uid: str) -> tuple[str, str] | None:
        columns = instance.c.sha256, instance.c.transfer_syntax_uid
        query = sa.select(*columns).where(instance.c.sop_instance_uid == sop_instance_uid)
        with self.database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else (row.sha256, row.transfer_syntax_uid)

    def _shelve_all(self, drafts: Sequence[_Draft]) -> list[bool]:
        """Name the files durably, then insert their rows; return False for each UID that already had a row."""
        name_files([(one.draft, one.target) for one in drafts])
        sync_folders({one.target.parent for one in drafts})
        self.present()  # else the files may lie below the place where it is mounted, and disappear when it comes back
        return self._insert([one.row for one in drafts])

    def _insert(self, rows: Sequence[dict[str, str | float]]) -> list[bool]:
        inserted: dict[int, bool] = {}
        with self.database.writing() as connection:
            # sorted, since two processes that insert the same UIDs in different orders could deadlock
            for at in sorted(range(len(rows)), key=lambda at: str(rows[at]["sop_instance_uid"])):
                inserted[at] = bool(connection.execute(self._new_row, rows[at]).rowcount)
        return [inserted[at] for at in range(len(rows))]

    def _quarantine(self, name: str, parts: list[bytes | memoryview], row: dict[str, str | float]) -> None:
        target = self.layout.quarantine / name
        write_file(target, parts, self.incoming)
        values = {"path": self.layout.relative(target), "received_at": self.clock(), **row}
        with self.database.writing() as connection:
            insert = self.database.insert(quarantine).values(**values).on_conflict_do_nothing()
            tally.add(connection, "quarantined", connection.execute(insert).rowcount)

    def _adopt(self, path: Path) -> bool:
        """Make a row for a file that has none; return False where its UID has another file, or it is damaged."""
        try:
            row = self._row_of(path)
        except ValueError as error:
            aside = self.layout.quarantine / path.parent.name / path.name
            LOG.error("the file %s is damaged (%s): moved to %s", path, error, aside)
            name_files([(path, aside)])
            sync_folders({path.parent, aside.parent})
            return False
        (adopted,) = self._insert([row])
        if not adopted and not self._has_row(path):  # it lost a race for one UID and was never acknowledged
            remove(path)
        return adopted

    def _abandoned(self) -> list[Path]:
        """Return the drafts of nodes that do not run."""
        with self.database.reading() as connection:
            running = set(connection.scalars(sa.select(member_row.c.name)))
        places = list(self.layout.incoming.iterdir())
        found = [place for place in places if not place.is_dir()]
        for folder in places:
            if folder.is_dir() and folder.name not in running and folder != self.incoming:
                found += folder.iterdir()
        return found

    def _has_row(self, path: Path) -> bool:
        """Return whether a file has a row by now: another node may have named it and written its row meanwhile."""
        mine = sa.select(instance.c.path).where(instance.c.path == self.layout.relative(path))
        with self.database.reading() as connection:
            return connection.scalar(mine) is not None

    def _row_of(self, path: Path) -> dict[str, str | float]:
        """Return the row that `store` would make for a file, read from it piece by piece.

        Raises
        ------
        ValueError
            Where `store` did not write this file completely.
        """
        with path.open("rb") as file:
            meta, head = read_file_meta(file)
            hashed, size = hashlib.sha256(), 0
            while piece := file.read(PIECE):
                hashed.update(piece)
                size += len(piece)
        if _name(meta.sop_instance_uid, hashlib.sha256(head).digest(), hashed.digest()) != "/".join(
            path.parts[-2:]
        ):
            raise ValueError("its content is not what its name says")
        return {
            "sop_instance_uid": meta.sop_instance_uid,
            "sop_class_uid": meta.sop_class_uid,
            "transfer_syntax_uid": meta.transfer_syntax_uid,
            "sha256": hashed.hexdigest(),
            "size": size,
            "path": self.layout.relative(path),
            "received_at": self.clock(),
            "calling_ae": "",
        }


def index(database: Database, connection: sa.Connection, read: Mapping[str, Header | str]) -> list[str]:
    """Record, by SOP Instance UID, the header read of each instance or why it cannot be read.

    Returns
    -------
    list of str
        UIDs of instances whose data set has another SOP Instance UID than the one they are stored under.
    """
    others = {
        uid: h.sop_instance_uid
        for uid, h in read.items()
        if not isinstance(h, str) and h.sop_instance_uid != uid
    }
    if others:
        pairs = [{"uid": own, "sop_instance_uid": uid} for uid, own in others.items()]
        connection.execute(database.insert(data_set_uid).on_conflict_do_nothing(), pairs)
    rows = [
        {
            "uid": uid,
            "problem": found if isinstance(found, str) else None,
            "header": None if isinstance(found, str) else dump(found),
            "study_uid": None if isinstance(found, str) else found.study_instance_uid,
            "series_uid": None if isinstance(found, str) else found.series_instance_uid,
        }
        for uid, found in read.items()
    ]
    values: dict[str, Any] = {
        name: sa.bindparam(name) for name in ("problem", "header", "study_uid", "series_uid")
    }
    query = sa.update(instance).where(instance.c.sop_instance_uid == sa.bindparam("uid")).values(**values)
    connection.execute(query, rows)
    keys = {
        (digest, h.study_instance_uid)
        for h in read.values()
        if not isinstance(h, str)
        for digest in (h.person.patient_id, h.accession)
        if digest
    }
    if keys:
        found = [{"digest": digest, "study_uid": study} for digest, study in sorted(keys)]
        connection.execute(database.insert(study_key).on_conflict_do_nothing(), found)
    return sorted(others)


def _name(sop_instance_uid: str, head: bytes, dataset: bytes) -> str:
    """Return the shelf and name of a file, from hashes of its UID, its header and its data set."""
    uid = hashlib.sha256(sop_instance_uid.encode()).hexdigest()
    return f"{uid[:2]}/{uid[:32]}-{hashlib.sha256(head + dataset).hexdigest()[:32]}.dcm"
