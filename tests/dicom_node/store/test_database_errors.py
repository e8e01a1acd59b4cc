"""Whatever keeps a database from doing its work is `Unavailable`, in one sentence: a sender is to try again later."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from node_values import image
from pynetdicom import AE
from sqlalchemy import exc

from dicom_node.errors import Unavailable
from dicom_node.network.storage_scp import Received, Receiver
from dicom_node.settings.config import ReceiveSettings
from dicom_node.settings.layout import Layout
from dicom_node.store.archive import Archive
from dicom_node.store.database import Database
from dicom_node.store.identity import join
from dicom_node.store.migrations import SCHEMA
from dicom_node.store.tables import database_id, schema


def raising(error: BaseException) -> None:
    """What SQLAlchemy does with an error of a driver."""
    raise exc.DBAPIError.instance("SELECT 1", {}, error, sqlite3.Error)


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("attempt to write a readonly database"),
        sqlite3.InternalError("cannot execute INSERT in a read-only transaction\nLINE 1: INSERT\n        ^"),
        sqlite3.DatabaseError("database disk image is malformed"),
        sqlite3.InterfaceError("connection already closed"),
    ],
)
def test_what_is_no_fault_of_the_question_is_tried_again_later(error: sqlite3.Error) -> None:
    database = Database("sqlite://", prepare=True)
    with pytest.raises(Unavailable) as found, database.writing():
        raising(error)
    assert "\n" not in str(found.value)
    assert str(error).split("\n")[0] in str(found.value)
    database.close()


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.IntegrityError("UNIQUE constraint failed"),
        sqlite3.DataError("value too long"),
        sqlite3.ProgrammingError("no such column"),
    ],
)
def test_what_is_a_fault_of_the_question_is_a_bug(error: sqlite3.Error) -> None:
    database = Database("sqlite://", prepare=True)
    with pytest.raises(exc.DBAPIError), database.writing():
        raising(error)
    database.close()


def test_a_damaged_database_answers_a_sender_to_try_again_later(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    Database(f"sqlite:///{path}", prepare=True).close()
    with sqlite3.connect(path) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE type = 'table' AND name = 'instance'"
        (page,), (size,) = (connection.execute(q).fetchone() for q in (query, "PRAGMA page_size"))
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))
    database = Database(f"sqlite:///{path}")
    archive = Archive(tmp_path / "storage", database)

    def store(received: Received) -> str:
        return archive.store(
            sop_class_uid=received.sop_class_uid,
            sop_instance_uid=received.sop_instance_uid,
            transfer_syntax_uid=received.transfer_syntax_uid,
            calling_ae="CT1",
            dataset=received.dataset,
        )

    receiver = Receiver(ReceiveSettings(port=0), store, lambda: 1e6)  # type: ignore[arg-type]
    ae = AE("CT1")
    ae.add_requested_context(image().SOPClassUID)
    assoc = ae.associate("127.0.0.1", receiver.start())
    assert assoc.send_c_store(image()).Status == 0xA700
    assoc.release()
    receiver.stop()
    database.close()


def test_a_database_that_comes_back_with_its_disk_is_used_again_at_once(tmp_path: Path) -> None:
    disk, away = tmp_path / "a disk#1", tmp_path / "away"
    disk.mkdir()
    database = Database(f"sqlite:///{disk / 'node.db'}", prepare=True)
    database.engine.dispose()  # connections that are open outlive a mount
    disk.rename(away)
    disk.mkdir()
    with pytest.raises(Unavailable), database.reading() as connection:
        connection.scalar(sa.select(schema.c.version))
    assert not (disk / "node.db").exists()
    disk.rmdir()
    away.rename(disk)
    with database.reading() as connection:
        assert connection.scalar(sa.select(schema.c.version)) == SCHEMA
    database.close()


def test_another_database_that_lies_at_the_path_while_the_disk_is_away_is_not_opened(tmp_path: Path) -> None:
    disk, away, other = tmp_path / "disk", tmp_path / "away", tmp_path / "other"
    for folder in (other, disk):
        folder.mkdir()
        made = Database(f"sqlite:///{folder / 'node.db'}", prepare=True)
        own = join(Layout(folder), made)
        made.close()
    database = Database(f"sqlite:///{disk / 'node.db'}")
    database.engine.dispose()  # connections that are open outlive a mount
    disk.rename(away)
    other.rename(disk)
    with pytest.raises(Unavailable, match="another one lies in its place"), database.reading():
        pass
    with pytest.raises(Unavailable, match="another one lies in its place"):
        Database(f"sqlite:///{disk / 'node.db'}", identity=own)  # as a process that is started meanwhile
    disk.rename(other)
    away.rename(disk)
    for again in (database, Database(f"sqlite:///{disk / 'node.db'}", identity=own)):
        with again.reading() as connection:
            assert connection.scalar(sa.select(database_id.c.identity)) == own
        again.close()
