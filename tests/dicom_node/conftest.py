"""Real values, files and databases that several tests of the node share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.store.archive import Archive
from dicom_node.store.database import Database
from dicom_node.store.tables import metadata


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """SQLite; or the empty PostgreSQL database that $VQ_DATABASE names, emptied again after each test."""
    url = os.environ.get("VQ_DATABASE", "")
    database = Database(url or f"sqlite:///{tmp_path / 'node.db'}", prepare=True)
    yield database
    if url:
        metadata.drop_all(database.engine)
    database.close()


@pytest.fixture
def archive(tmp_path: Path, database: Database) -> Archive:
    return Archive(tmp_path / "storage", database)
