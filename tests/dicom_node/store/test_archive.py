from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from node_values import CT, EXPLICIT, make_slice

from dicom_node.errors import Unavailable
from dicom_node.model import Header
from dicom_node.store import durable
from dicom_node.store.archive import Archive, index
from dicom_node.store.database import Database
from dicom_node.store.tables import instance, quarantine


def store(archive: Archive, uid: str = "1.2.3.4", dataset: bytes = b"\x08\x00\x05\x00CS\x00\x00") -> str:
    return archive.store(
        sop_class_uid=CT,
        sop_instance_uid=uid,
        transfer_syntax_uid=EXPLICIT,
        calling_ae="CT1",
        dataset=dataset,
    )


def files(archive: Archive, folder: str = "archive") -> list[Path]:
    return [p for p in (archive.layout.storage / folder).rglob("*") if p.is_file()]


def test_what_is_stored_is_a_part_10_file_with_the_bytes_as_received(archive: Archive) -> None:
    data = b"\x08\x00\x60\x00CS\x02\x00CT"
    assert store(archive, dataset=data) == "stored"
    (path,) = files(archive)
    assert path.read_bytes().endswith(data)
    ds = pydicom.dcmread(path)
    assert ds.Modality == "CT"
    assert ds.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert ds.file_meta.TransferSyntaxUID == EXPLICIT
    assert archive.paths(["1.2.3.4", "9"]) == {"1.2.3.4": path}


def test_only_the_owner_can_read(archive: Archive) -> None:
    store(archive)
    (path,) = files(archive)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {
        stat.S_IMODE(p.stat().st_mode) for p in path.parents if p.is_relative_to(archive.layout.storage)
    } == {0o700}
    if (file := archive.database.engine.url.database) and archive.database.engine.dialect.name == "sqlite":
        assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600


def test_twice_the_same_is_once(archive: Archive, database: Database) -> None:
    assert [store(archive), store(archive)] == ["stored", "same"]
    assert len(files(archive)) == 1
    assert len(archive.unindexed(10)) == 1


def test_other_bytes_of_one_uid_go_to_quarantine_and_the_first_stay(
    archive: Archive, database: Database
) -> None:
    store(archive, dataset=b"first")
    assert [store(archive, dataset=b"other"), store(archive, dataset=b"other")] == ["other", "other"]
    (path,) = files(archive)
    assert path.read_bytes().endswith(b"first")
    assert [p.read_bytes()[-5:] for p in files(archive, "quarantine")] == [b"other"]
    with database.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(quarantine)) == 1


def test_many_senders_of_one_uid_keep_exactly_one(archive: Archive, database: Database) -> None:
    outcomes: list[str] = []
    contents = [b"a" * 1000, b"b" * 1000] * 8
    threads = [
        threading.Thread(target=lambda c=c: outcomes.append(store(archive, dataset=c))) for c in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("stored") == 1
    assert outcomes.count("same") == 7
    assert outcomes.count("other") == 8
    (path,) = files(archive)
    with database.reading() as connection:
        row = connection.execute(sa.select(instance)).one()
    assert archive.layout.storage / row.path == path
    assert hashlib.sha256(path.read_bytes()[-1000:]).hexdigest() == row.sha256


def test_a_full_disk_leaves_neither_file_nor_row(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(Unavailable, match="the disk is full"):
        store(archive)
    assert not files(archive)
    assert not files(archive, "incoming")
    assert archive.unindexed(10) == []


def test_success_means_file_and_name_were_synced_before_the_row(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def noted(word: str, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(argument: Any) -> Any:
            order.append(word)
            return step(argument)

        return run

    monkeypatch.setattr(os, "fdatasync", noted("data", os.fdatasync))
    monkeypatch.setattr(durable, "sync_folder", noted("name", durable.sync_folder))
    monkeypatch.setattr(archive, "_insert", noted("row", archive._insert))
    store(archive)
    assert order == ["data", "name", "row"]


def test_after_a_crash_drafts_go_and_whole_files_are_adopted(archive: Archive, database: Database) -> None:
    store(archive, uid="1.2.3.4", dataset=b"whole")
    (archive.incoming / "draft").write_bytes(b"half")
    with database.reading() as connection:
        before = connection.execute(sa.select(instance)).one()
    with database.writing() as connection:
        connection.execute(sa.delete(instance))
    assert archive.sweep() == (1, 1)
    assert archive.sweep() == (0, 0)
    with database.reading() as connection:
        after = connection.execute(sa.select(instance)).one()
    for name in ("sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "sha256", "size", "path"):
        assert getattr(after, name) == getattr(before, name)
    assert store(archive, uid="1.2.3.4", dataset=b"whole") == "same"


def test_headers_come_back_as_they_were(archive: Archive, database: Database) -> None:
    header = Header(
        CT, "1.2.3.4", "1.2.3", "1.2", "CT", (make_slice("1.2.3.4", 7.5),), ("a", "b"), phase_percent=50
    )
    store(archive, uid="1.2.3.4")
    store(archive, uid="1.2.3.5")
    with database.writing() as connection:
        index(database, connection, {"1.2.3.4": header, "1.2.3.5": "unreadable"})
    assert archive.headers("1.2") == [header]
    assert archive.unindexed(10) == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_uid_never_becomes_a_path(archive: Archive) -> None:
    store(archive, uid="../../../../etc/passwd")
    (path,) = files(archive)
    assert path.parent.parent == archive.layout.storage / "archive"
    assert ".." not in path.name


def test_the_same_bytes_in_another_syntax_are_another_data_set(archive: Archive) -> None:
    store(archive)
    again = {"sop_class_uid": CT, "sop_instance_uid": "1.2.3.4", "calling_ae": "CT1"}
    data = b"\x08\x00\x05\x00CS\x00\x00"
    assert archive.store(transfer_syntax_uid="1.2.840.10008.1.2", dataset=data, **again) == "other"
    assert len(files(archive)) == len(files(archive, "quarantine")) == 1
