"""A database file of SQLite -> its connections: durable, one writer at a time, never to another file in its place."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from ..errors import Unavailable
from .durable import open_file
from .tables import database_id

#: What every connection is told: to wait 30 s for another program's lock, and to sync what it commits.
SETTINGS = "busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"


def prepare(engine: sa.Engine) -> None:
    """Let every connection of an engine have `SETTINGS`, and begin its transactions as `Database` asks for."""
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)


def open_one(engine: sa.Engine, identity: str) -> None:
    """Let an engine open a file that is there, and only one database, whatever else lies at its path later.

    While the disk of the storage is away, that may be nothing, or the file of a node that was once started without the
    disk. An empty file made there, or that other one, would stay in use.

    Parameters
    ----------
    engine : Engine
    identity : str
        Of the database (`identity.join`); "" takes the one of the first connection.
    """
    sa.event.listen(engine, "do_connect", _open_existing)
    sa.event.listen(engine, "connect", _Same(identity))


def private_file(path: str) -> int:
    """Open a file of the database that only its owner may read, which is made where it is missing.

    Raises
    ------
    Unavailable
        Where that is not possible.
    """
    try:
        return open_file(Path(path), os.O_RDWR)
    except OSError as error:
        raise Unavailable(f"the database {path} cannot be opened: {error.strerror}") from error


class Turn:
    """Lets one thread of all processes write a database file at a time; a killed process gives up its turn.

    Parameters
    ----------
    database : str
        Path of the file; ":memory:" is a database that no other process can see.
    """

    def __init__(self, database: str) -> None:
        self._path = "" if database == ":memory:" else f"{database}-turn"
        self._lock, self._held = threading.Lock(), -1

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            if self._path:
                self._held = private_file(self._path)
                fcntl.flock(self._held, fcntl.LOCK_EX)
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        if self._path:
            os.close(self._held)
        self._lock.release()


def _open_existing(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> None:
    arguments[0] = f"file:{quote(arguments[0])}?mode=rw"
    options["uri"] = True


class _Same:
    """Refuses a connection to another database than the first one."""

    def __init__(self, identity: str) -> None:
        self._identity = identity

    def __call__(self, dbapi_connection: Any, _record: object) -> None:
        found = _identity_in(dbapi_connection)
        if self._identity not in ("", found):
            dbapi_connection.close()
            raise sqlite3.OperationalError("another one lies in its place: the disk of the storage is away")
        self._identity = found


def _identity_in(dbapi_connection: Any) -> str:
    made = dbapi_connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (database_id.name,))
    row = (
        dbapi_connection.execute(f"SELECT identity FROM {database_id.name}").fetchone()
        if made.fetchone()
        else None
    )
    return str(row[0]) if row else ""


def _prepare(dbapi_connection: Any, _record: object) -> None:
    dbapi_connection.isolation_level = None  # sqlite3 must not begin transactions by itself
    cursor = dbapi_connection.cursor()
    for setting in SETTINGS:
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    # IMMEDIATE: a writer waits for its turn at BEGIN, while a read that becomes a write could only fail
    how = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
    connection.exec_driver_sql(f"BEGIN {how}")
