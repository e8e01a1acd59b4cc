"""Bytes of one instance -> a durable file and its row; headers -> the rows of their studies.

``0x0000`` may be answered once `Archive.store` has returned: the file and its name are synced, then the row
is committed. A file is named after the hash of its UID and of its content, so two senders of one UID never
write one file, and an instance, once stored, never changes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from .database import UNINDEXED, Database, dump, instance, load, quarantine
from .durable import make_folder, sync_folder, write_file
from .model import Header

Outcome = Literal["stored", "same", "other"]

#: Implementation Class UID (PS3.7 D.3.3.2) of this node, from a UUID (PS3.5 B.2).
IMPLEMENTATION_CLASS_UID = "2.25.92895074691723704340970795110280166650"
IMPLEMENTATION_VERSION = "VQ_DICOM_NODE"
SHELVES = [f"{n:02x}" for n in range(256)]


@dataclass(frozen=True)
class Stored:
    """An instance whose header is still to be read."""

    sop_instance_uid: str
    path: Path
    received_at: float


class Archive:
    """The stored instances: files below ``<storage>/archive``, one row each.

    Parameters
    ----------
    storage : Path
        The node's folder; made where missing, for the owner only.
    database : Database
    clock : callable
        Seconds since 1970.
    """

    def __init__(self, storage: Path, database: Database, clock: Callable[[], float] = time.time) -> None:
        self.storage, self.database, self.clock = storage, database, clock
        self.incoming = make_folder(storage / "incoming")
        for folder in ("archive", "quarantine"):
            for shelf in SHELVES:
                make_folder(storage / folder / shelf)

    def store(
        self,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        calling_ae: str,
        dataset: bytes | memoryview,
    ) -> Outcome:
        """Keep one instance for good.

        Parameters
        ----------
        sop_class_uid, sop_instance_uid, transfer_syntax_uid : str
            Of the C-STORE command and its presentation context; valid UIDs.
        calling_ae : str
        dataset : bytes
            As received, in that transfer syntax.

        Returns
        -------
        {"stored", "same", "other"}
            ``same``: these bytes were here already, nothing changed. ``other``: another data set was here
            under this UID and stays; this one is in quarantine.

        Raises
        ------
        Unavailable
            Where the disk or the database is; nothing counts as received then.
        """
        digest = hashlib.sha256(dataset).hexdigest()
        known = self._known(sop_instance_uid)
        if known == (digest, transfer_syntax_uid):
            return "same"
        row = {"sop_instance_uid": sop_instance_uid, "sha256": digest, "calling_ae": calling_ae}
        head = _part10_header(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        if known is None:
            path = self._write("archive", sop_instance_uid, [head, dataset])
            uids = {"sop_class_uid": sop_class_uid, "transfer_syntax_uid": transfer_syntax_uid}
            if self._insert(path=path, size=len(dataset), received_at=self.clock(), **uids, **row):
                return "stored"
            return self._after_race(path, head, dataset, transfer_syntax_uid, row)
        return self._quarantine(head, dataset, row)

    def sweep(self) -> tuple[int, int]:
        """Tidy up after a crash: remove drafts, adopt whole files that have no row.

        A file without a row was complete and synced, but not acknowledged. Adopting it loses nothing, and
        makes the archive its own backup: rows lost with a database come back.

        Returns
        -------
        (int, int)
            Drafts removed, files adopted.
        """
        drafts = list(self.incoming.iterdir())
        for draft in drafts:
            draft.unlink()
        sync_folder(self.incoming)
        with self.database.reading() as connection:
            known = set(connection.scalars(sa.select(instance.c.path)))
        files = (p for shelf in SHELVES for p in (self.storage / "archive" / shelf).iterdir())
        return len(drafts), sum(self._adopt(p) for p in files if self._relative(p) not in known)

    def unindexed(self, limit: int) -> list[Stored]:
        """Instances whose header was not read yet, the oldest first."""
        columns = instance.c.sop_instance_uid, instance.c.path, instance.c.received_at
        query = sa.select(*columns).where(UNINDEXED).order_by(instance.c.received_at).limit(limit)
        with self.database.reading() as connection:
            return [
                Stored(r.sop_instance_uid, self.storage / r.path, r.received_at)
                for r in connection.execute(query)
            ]

    def headers(self, study_uid: str) -> list[Header]:
        """The headers read of a study."""
        query = sa.select(instance.c.header).where(
            instance.c.study_uid == study_uid, instance.c.header.is_not(None)
        )
        with self.database.reading() as connection:
            return [load(Header, text) for text in connection.scalars(query)]

    def paths(self, sop_instance_uids: Iterable[str]) -> dict[str, Path]:
        """Where instances are stored, by SOP Instance UID."""
        wanted = list(sop_instance_uids)
        found: dict[str, Path] = {}
        with self.database.reading() as connection:
            for start in range(0, len(wanted), 500):
                part = instance.c.sop_instance_uid.in_(wanted[start : start + 500])
                rows = connection.execute(sa.select(instance.c.sop_instance_uid, instance.c.path).where(part))
                found.update({row.sop_instance_uid: self.storage / row.path for row in rows})
        return found

    def _known(self, sop_instance_uid: str) -> tuple[str, str] | None:
        columns = instance.c.sha256, instance.c.transfer_syntax_uid
        query = sa.select(*columns).where(instance.c.sop_instance_uid == sop_instance_uid)
        with self.database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else (row.sha256, row.transfer_syntax_uid)

    def _write(self, folder: str, uid: str, parts: list[bytes | memoryview]) -> str:
        shelf = hashlib.sha256(uid.encode()).hexdigest()
        content = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
        target = self.storage / folder / shelf[:2] / f"{shelf[:32]}-{content[:32]}.dcm"
        write_file(target, parts, self.incoming)
        return self._relative(target)

    def _insert(self, **row: str | float) -> bool:
        with self.database.writing() as connection:
            insert = self.database.insert(instance).values(**row).on_conflict_do_nothing()
            return bool(connection.execute(insert).rowcount)

    def _after_race(
        self,
        path: str,
        head: bytes,
        dataset: bytes | memoryview,
        transfer_syntax_uid: str,
        row: dict[str, str],
    ) -> Outcome:
        """Another association stored this UID between the look and the insert."""
        if self._known(row["sop_instance_uid"]) == (row["sha256"], transfer_syntax_uid):
            return "same"
        outcome = self._quarantine(head, dataset, row)
        (self.storage / path).unlink(missing_ok=True)
        return outcome

    def _quarantine(self, head: bytes, dataset: bytes | memoryview, row: dict[str, str]) -> Outcome:
        path = self._write("quarantine", row["sop_instance_uid"], [head, dataset])
        values = {"path": path, "received_at": self.clock(), **row}
        with self.database.writing() as connection:
            connection.execute(self.database.insert(quarantine).values(**values).on_conflict_do_nothing())
        return "other"

    def _adopt(self, path: Path) -> bool:
        meta = read_file_meta_info(path)
        content = path.read_bytes()
        dataset = memoryview(content)[_dataset_offset(content) :]
        adopted = self._insert(
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
            sha256=hashlib.sha256(dataset).hexdigest(),
            size=len(dataset),
            path=self._relative(path),
            received_at=self.clock(),
            calling_ae="",
        )
        if not adopted:  # the loser of a race for one UID, never acknowledged
            path.unlink()
        return adopted

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.storage).as_posix()


def index(connection: sa.Connection, sop_instance_uid: str, read: Header | str) -> None:
    """Record what was read of an instance: its header, or why it cannot be read."""
    values: dict[str, str] = (
        {"problem": read}
        if isinstance(read, str)
        else {
            "header": dump(read),
            "study_uid": read.study_instance_uid,
            "series_uid": read.series_instance_uid,
        }
    )
    connection.execute(
        sa.update(instance).where(instance.c.sop_instance_uid == sop_instance_uid).values(**values)
    )


def _part10_header(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and File Meta Information (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    buffer = BytesIO()
    write_file_meta_info(buffer, meta)
    return b"\x00" * 128 + b"DICM" + buffer.getvalue()


def _dataset_offset(content: bytes) -> int:
    """Where the data set begins: after the group (0002,xxxx), whose length is its first element."""
    return 132 + 12 + int.from_bytes(content[140:144], "little")
