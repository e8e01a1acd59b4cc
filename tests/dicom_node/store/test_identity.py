from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from node_values import make_pair

from analysis.pipeline.pipeline import Parameters
from dicom_node.errors import Rejected, Unavailable
from dicom_node.jobs import queue as jobs
from dicom_node.settings.layout import Layout
from dicom_node.store.database import Database
from dicom_node.store.identity import join
from dicom_node.store.tables import MIGRATIONS, SCHEMA, metadata


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
            connection.execute(sa.text("DROP TABLE storage"))
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
