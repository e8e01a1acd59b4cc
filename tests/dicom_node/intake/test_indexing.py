from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from node_values import CT, EXPLICIT

from dicom_node.audit.trail import Trail
from dicom_node.dicom.headers import read_header
from dicom_node.errors import Unavailable
from dicom_node.intake.header_reader import Reader
from dicom_node.intake.indexing import index_new
from dicom_node.model import Header
from dicom_node.settings.layout import SHELVES, Layout
from dicom_node.store import tally
from dicom_node.store.archive import Archive
from dicom_node.store.database import Database
from dicom_node.store.identity import join
from dicom_node.store.tables import instance, study
from dicom_node.store.unread import UNREACHABLE, read_again
from dicom_node.strict_json import dump


@dataclass
class Said:
    """A reader that says of each file what it is told to."""

    headers: dict[str, Header | str]

    def read_all(self, paths: list[Path]) -> list[Header | str]:
        return [self.headers[path.name] for path in paths]


def header(uid: str, study_uid: str = "1.2") -> Header:
    return Header(CT, uid, "1.2.3", study_uid, modality="CT", slices=(), texts=(), ignored="not of interest")


def stored(archive: Archive, uids: list[str]) -> dict[str, str]:
    """Instances of these UIDs; the names of their files."""
    for uid in uids:
        archive.store(
            sop_class_uid=CT,
            sop_instance_uid=uid,
            transfer_syntax_uid=EXPLICIT,
            calling_ae="CT1",
            dataset=uid.encode(),
        )
    return {path.name: uid for uid, path in archive.paths(uids).items()}


def problems(database: Database) -> dict[str, str | None]:
    columns = instance.c.sop_instance_uid, instance.c.problem
    with database.reading() as connection:
        return {row.sop_instance_uid: row.problem for row in connection.execute(sa.select(*columns))}


def index(archive: Archive, database: Database, headers: dict[str, Header | str]) -> None:
    index_new(archive, cast(Reader[Header], Said(headers)), Trail(database, None, "VQNODE"), 1.0, b"key")


def test_one_row_that_the_database_does_not_take_is_its_instances_problem_and_stops_no_other(
    archive: Archive, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = stored(archive, ["1.1", "1.2", "1.3"])

    def refuse(value: Header) -> str:
        if value.sop_instance_uid == "1.2":
            raise ValueError("a value that nobody may read in a log")
        return dump(value)

    monkeypatch.setattr("dicom_node.store.archive.dump", refuse)
    index(archive, database, {name: header(uid) for name, uid in names.items()})
    assert problems(database) == {"1.1": None, "1.2": "its header cannot be kept (ValueError)", "1.3": None}
    assert archive.unindexed(10) == []


def test_a_database_that_is_away_blames_no_instance(
    archive: Archive, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = stored(archive, ["1.1"])

    def away(*_: object) -> None:
        raise Unavailable("the database is away")

    monkeypatch.setattr("dicom_node.store.archive.dump", away)
    with pytest.raises(Unavailable):
        index(archive, database, {name: header(uid) for name, uid in names.items()})
    assert len(archive.unindexed(10)) == 1


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bad=st.text(min_size=1, max_size=90))
def test_any_text_for_a_study_uid_leaves_nothing_unread(
    archive: Archive, database: Database, bad: str
) -> None:
    """On PostgreSQL a NUL or more than 64 characters are errors; surrogates are everywhere."""
    names = stored(archive, ["2.1", "2.2"])
    said = {name: header(uid, bad if uid == "2.1" else "1.2") for name, uid in names.items()}
    with database.writing() as connection:
        connection.execute(sa.update(instance).values(header=None, problem=None))
    index(archive, database, cast("dict[str, Header | str]", said))
    assert archive.unindexed(10) == []
    assert problems(database)["2.2"] is None


def test_while_the_storage_is_away_no_image_is_blamed_and_none_is_thanked_for(
    database: Database, tmp_path: Path
) -> None:
    storage = tmp_path / "storage"
    join(Layout(storage), database)
    archive, reader = Archive(storage, database), Reader(read_header)
    stored(archive, ["1.1"])
    storage.rename(tmp_path / "away")
    (storage / "incoming").mkdir(parents=True)  # what else may lie where the storage is to be mounted
    for shelf in SHELVES:
        (storage / "archive" / shelf).mkdir(parents=True)
    with pytest.raises(Unavailable, match="not mounted"):
        index_new(archive, reader, Trail(database, None, "VQNODE"), 1.0, b"key")
    with pytest.raises(Unavailable, match="not mounted"):
        stored(archive, ["1.2"])
    with pytest.raises(Unavailable, match="not mounted"):
        Archive(storage, database)
    shutil.rmtree(storage)
    (tmp_path / "away").rename(storage)
    assert problems(database) == {"1.1": None}
    reader.close()


def test_a_file_that_its_disk_does_not_give_is_read_again_and_then_has_its_header(archive: Archive) -> None:
    reader, trail = Reader(read_header), Trail(archive.database, None, "VQNODE")
    stored(archive, ["1.1"])
    (path,) = archive.paths(["1.1"]).values()
    path.rename(path.with_suffix(".away"))
    index_new(archive, reader, trail, 1.0, b"key")
    assert problems(archive.database) == {"1.1": UNREACHABLE}
    path.with_suffix(".away").rename(path)
    assert read_again(archive.database, (UNREACHABLE,), 10) == 1
    index_new(archive, reader, trail, 1.0, b"key")
    assert problems(archive.database)["1.1"] not in (None, UNREACHABLE)  # it is no DICOM file
    with archive.database.reading() as connection:  # counted once, however often it was read
        assert tally.read(connection)["instances"] == {("other", "unreadable"): 1}
    reader.close()


@pytest.mark.parametrize(
    ("ignored", "decided"),
    [
        ("no usable Samples per Pixel (0028,0002) (absent, expected 1) in SOP instance 1.1", True),
        ("localizer", True),
        ("not CT", False),
        ("our own result", False),
    ],
)
def test_a_study_whose_every_ct_image_is_unusable_is_decided_on_so_that_it_gets_a_reason(
    archive: Archive, database: Database, ignored: str, decided: bool
) -> None:
    names = stored(archive, ["1.1"])
    index(archive, database, {path: replace(header("1.1"), ignored=ignored) for path in names})
    with database.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(study)) == int(decided)
