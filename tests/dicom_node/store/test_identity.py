from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from node_values import CT, EXPLICIT, make_pair, make_series

from analysis.pipeline.pipeline import Parameters
from dicom_node.errors import Rejected, Unavailable
from dicom_node.jobs import priors
from dicom_node.jobs import queue as jobs
from dicom_node.model import Header, Person
from dicom_node.settings.layout import Layout
from dicom_node.store.database import Database
from dicom_node.store.identity import join
from dicom_node.store.keys import keyed_person
from dicom_node.store.migrations import MIGRATIONS, SCHEMA
from dicom_node.store.patients import protect
from dicom_node.store.tables import instance, metadata
from dicom_node.strict_json import dump, load

DIGESTS = [4 * f"{n:016x}" for n in range(1, 6)]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "storage")


def test_a_storage_and_a_database_know_each_other_from_the_first_start_on(
    layout: Layout, database: Database
) -> None:
    join(layout, database)
    said = layout.identity.read_text()
    join(layout, database)
    assert layout.identity.read_text() == said


def test_a_second_node_with_a_storage_of_its_own_is_refused_by_the_database(
    layout: Layout, database: Database, tmp_path: Path
) -> None:
    join(layout, database)
    other = Layout(tmp_path / "other")
    other.storage.mkdir()
    other.identity.write_text("another")
    with pytest.raises(Rejected, match="belongs to another storage"):
        join(other, database)


def test_a_storage_that_is_not_mounted_is_waited_for_not_begun_anew(
    layout: Layout, database: Database
) -> None:
    join(layout, database)
    layout.identity.unlink()
    with pytest.raises(Unavailable, match="not mounted"):
        join(layout, database)
    assert not layout.identity.exists()


def test_a_database_made_anew_lays_no_result_beside_those_that_are_there(
    layout: Layout, database: Database
) -> None:
    layout.results_of(41).mkdir(parents=True)
    join(layout, database)
    with database.writing() as connection:
        number = jobs.create(database, connection, make_pair(), Parameters(), "1.0", 100.0)
    assert number == 42


def undone(statement: str) -> str:
    """The statement that takes one of a migration back."""
    if index := re.match(r"CREATE INDEX (\w+) ", statement):
        return f"DROP INDEX {index[1]}"
    column = re.match(r"ALTER TABLE (\w+) ADD COLUMN (\w+) ", statement)
    assert column, f"no way back is known from: {statement}"
    return f"ALTER TABLE {column[1]} DROP COLUMN {column[2]}"


def test_tables_of_the_last_versions_are_brought_to_this_one(tmp_path: Path) -> None:
    for version in range(2, SCHEMA):
        url = f"sqlite:///{tmp_path / f'{version}.db'}"
        made = Database(url, prepare=True)
        with made.writing() as connection:  # as that version left it
            for statement in reversed([s for v in range(version, SCHEMA) for s in MIGRATIONS[v]]):
                connection.execute(sa.text(undone(statement)))
            for name in ("storage", "patient_key"):
                connection.execute(sa.text(f"DROP TABLE {name}"))
            connection.execute(sa.text(f"UPDATE schema_version SET version = {version}"))
        made.close()
        with pytest.raises(Rejected, match=f"of version {version}, this software needs"):
            Database(url)
        again = Database(url, prepare=True)
        with again.reading() as connection:
            found = sa.inspect(connection)
            for table in metadata.sorted_tables:
                assert {c["name"] for c in found.get_columns(table.name)} == {c.name for c in table.columns}
                names = {index.name for index in table.indexes}
                assert names <= {index["name"] for index in found.get_indexes(table.name)}
        again.close()


def with_digests(database: Database) -> None:
    """Rows as versions before 5 wrote them, with digests of patients that have no key."""
    person = Person(*DIGESTS[:4])
    header = replace(Header(CT, "1.2.3", "1.2.3.1", "1.2.3", modality="CT", slices=()), person=person)
    series = replace(make_series("1.2.3.1"), people=(person, Person()))
    pair = replace(make_pair(), inspiratory=series)
    with database.writing() as connection:
        for n in range(1200):
            texts = {"header": dump(header)} if n else {"problem": "no DICOM"}
            row = {
                "sop_instance_uid": f"1.2.{n}",
                "sop_class_uid": CT,
                "transfer_syntax_uid": EXPLICIT,
                "sha256": "",
            }
            place = {"size": 1, "path": f"{n}", "received_at": 0.0, "calling_ae": ""}
            connection.execute(sa.insert(instance).values(**row, **place, **texts))
        number = jobs.create(database, connection, pair, Parameters(), "1.0", 100.0)
        assert number is not None
        priors.keep(database, connection, number, DIGESTS[4], "20260101", "1.0", {"mean_v": 1.0})


def everything(database: Database) -> str:
    """All texts that the database holds."""
    with database.reading() as connection:
        rows = [
            tuple(row) for table in metadata.sorted_tables for row in connection.execute(sa.select(table))
        ]
    return repr(rows)


def test_digests_of_patients_get_a_key_at_the_first_start_and_still_tell_them_apart(
    layout: Layout, database: Database
) -> None:
    with_digests(database)
    assert all(digest in everything(database) for digest in DIGESTS)
    join(layout, database)
    key = protect(layout, database)
    assert layout.patients_key.stat().st_mode & 0o777 == 0o600
    assert not any(digest in everything(database) for digest in DIGESTS)
    with database.reading() as connection:
        headers = list(connection.scalars(sa.select(instance.c.header).where(instance.c.header.is_not(None))))
    assert len(headers) == 1199
    assert {load(Header, text).person for text in headers} == {keyed_person(key, Person(*DIGESTS[:4]))}
    again = jobs.read(database, 1)
    assert again.pair.inspiratory.people == (keyed_person(key, Person(*DIGESTS[:4])), Person())
    assert again.pair.expiratory == make_pair().expiratory
    before = everything(database)
    assert protect(layout, database) == key
    assert everything(database) == before


def test_a_key_that_is_missing_or_another_is_refused_rather_than_patients_taken_for_others(
    layout: Layout, database: Database
) -> None:
    join(layout, database)
    protect(layout, database)
    layout.patients_key.write_bytes(b"another")
    with pytest.raises(Rejected, match="not the key of this database"):
        protect(layout, database)
    layout.patients_key.unlink()
    with pytest.raises(Rejected, match="missing: restore it from the backup"):
        protect(layout, database)
    assert not layout.patients_key.exists()
