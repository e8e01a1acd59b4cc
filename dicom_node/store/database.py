"""URL -> the node's tables and transactions on them; they hold all state and every due time.

Times are seconds since 1970 (UTC). SQLite is the embedded default (WAL, ``synchronous=FULL``); PostgreSQL
works through its SQLAlchemy URL.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    NotSupportedError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..errors import Rejected, Unavailable
from . import page_tables, sqlite  # noqa: F401  the tables of the page are made with the others
from .migrations import MIGRATIONS, SCHEMA
from .tables import PARTIAL, metadata, schema

DIALECTS = "sqlite", "postgresql"


def insert_into(dialect: str, table: sa.Table) -> Any:
    """Return an INSERT of a dialect that has ``on_conflict_do_nothing`` and ``on_conflict_do_update``.

    Only the dialect that is used is imported: each costs a process some megabytes.
    """
    return importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert(table)


#: A server that is gone is noticed within 20 s; so is, by the server, a node that is gone, whose locks are freed then.
NOTICE_THE_DEAD: Mapping[str, Any] = {
    **{"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2},
    "tcp_user_timeout": 20_000,
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2 "
    "-c tcp_user_timeout=20000",
}


class NoTables(Unavailable):
    """No node has made the tables of this database yet."""


class Database:
    """The node's tables behind one URL; each process has one such object, which its threads share.

    Parameters
    ----------
    url : str
        An SQLAlchemy URL of SQLite or PostgreSQL, e.g. ``"sqlite:///node.db"``.
    prepare : bool
        True to make the tables, or to migrate those of an older version. Only the start of a node does so: a command
        of a newer version must not change the tables under a running node.
    identity : str
        Identity that a database of SQLite must have (`identity.join`); "" takes the one of the first connection.

    Raises
    ------
    Rejected
        Where the URL is invalid, its driver is not installed, or the tables have another version.
    NoTables
        Where no node has made the tables yet.
    Unavailable
        Where the database cannot be reached.

    Examples
    --------
    >>> database = Database("sqlite://", prepare=True)
    >>> with database.reading() as connection:
    ...     connection.scalar(sa.select(schema.c.version)) == SCHEMA
    True
    """

    def __init__(self, url: str, prepare: bool = False, identity: str = "") -> None:
        try:
            self.engine = _engine(url, prepare, identity)
        except (SQLAlchemyError, ImportError) as error:
            raise Rejected(f"the database URL cannot be used: {error}") from error
        file = self.engine.url.database or ":memory:"
        self._turn: AbstractContextManager[Any] = sqlite.Turn(file) if self._is_sqlite else nullcontext()
        self._writer: sa.Connection | None = None
        if prepare:
            with self.writing() as connection:
                self.alone(connection, "tables")
                # told here, because a table that names a dialect loads it, where it is not used too
                for index, rows in PARTIAL:
                    index.dialect_kwargs[f"{self.engine.dialect.name}_where"] = rows
                metadata.create_all(connection)
                version = connection.scalar(sa.select(schema.c.version))
                if version is None:
                    connection.execute(self.insert(schema).values(version=SCHEMA).on_conflict_do_nothing())
                elif version != SCHEMA:
                    _migrate(connection, version)
        else:
            self._check_version()

    def _check_version(self) -> None:
        with self.reading() as connection:
            made = sa.inspect(connection).has_table(schema.name)
            version = connection.scalar(sa.select(schema.c.version)) if made else None
        if version is None:
            raise NoTables("no node has run with this database yet: start one")
        if version != SCHEMA:
            self.engine.dispose()
            raise Rejected(
                f"the database is of version {version}, this software needs {SCHEMA}: "
                + ("start the node of this version once" if version < SCHEMA else "use the newer software")
            )

    @property
    def is_shared(self) -> bool:
        """Return whether several nodes may use this database: PostgreSQL, not a file of SQLite."""
        return not self._is_sqlite

    @property
    def _is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def alone(self, connection: sa.Connection, what: str) -> None:
        """Let no other node do the same at this time, until the caller's transaction ends."""
        if self.is_shared:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_number(what))))

    def insert(self, table: sa.Table) -> Any:
        """Return an INSERT that has ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
        return insert_into(self.engine.dialect.name, table)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a connection that only reads and never waits for a writer.

        Raises
        ------
        Unavailable
            Where the database cannot be reached.
        """
        with _away(), self.engine.connect().execution_options(sqlite_begin="DEFERRED") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that is durable when the block ends and undone where it raises.

        SQLite allows one writer at a time. This node's writers take turns here, since SQLite's busy handler sleeps.

        Raises
        ------
        Unavailable
            Where the database cannot be reached, or is locked or full; as far as it could tell, nothing was changed.
        """
        with _away(), self._turn:
            if not self._is_sqlite:
                with self.engine.begin() as connection:
                    yield connection
                return
            # kept open, since checking one out of the pool and in again costs as much as a row
            if self._writer is None:
                self._writer = self.engine.connect()
            with self._writer.begin():
                yield self._writer

    @contextmanager
    def session(self) -> Iterator[sa.Connection]:
        """Open a connection outside of any transaction, e.g. for a lock that is held for long.

        Raises
        ------
        Unavailable
            Where the database cannot be reached.
        """
        with _away(), self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def begin_after(self, connection: sa.Connection, table: str, last: int) -> None:
        """Let the row numbers of an empty table begin after `last`."""
        if not last:
            return
        if self._is_sqlite:
            row = {"name": table, "seq": last}
            connection.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), row)
        else:
            connection.execute(sa.text(f"ALTER SEQUENCE {table}_id_seq RESTART WITH {int(last) + 1}"))

    def close(self) -> None:
        """Close the connections."""
        with self._turn:  # a thread may still be writing
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        self.engine.dispose()


def is_shared(url: str) -> bool:
    """Return whether a URL names a database that several nodes may use; a wrong URL is the matter of `Database`."""
    return url.startswith("postgresql")


def lock_number(name: str) -> int:
    """Return the number of an advisory lock of PostgreSQL, which takes 64 bits instead of a name."""
    return int.from_bytes(hashlib.sha256(f"dicom-node {name}".encode()).digest()[:8], "big", signed=True)


def _migrate(connection: sa.Connection, version: int) -> None:
    """Migrate the tables from `version` to `SCHEMA`, or change nothing.

    Raises
    ------
    Rejected
        Where this software cannot migrate from that version.
    """
    if version > SCHEMA or any(step not in MIGRATIONS for step in range(version, SCHEMA)):
        raise Rejected(f"the database is of version {version}, this software knows {SCHEMA}")
    for step in range(version, SCHEMA):
        for statement in MIGRATIONS[step]:
            connection.exec_driver_sql(statement)
    connection.execute(sa.update(schema).values(version=SCHEMA))


@contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except (IntegrityError, DataError, ProgrammingError, NotSupportedError):
        raise  # the statement itself is wrong: a bug, or a value that nobody checked
    except (DatabaseError, InterfaceError, PoolTimeout) as error:  # unreachable, full, read-only or damaged
        why = " ".join(str(getattr(error, "orig", error)).split())
        raise Unavailable(f"the database cannot be reached: {why}") from error


def _engine(url: str, prepare: bool, identity: str) -> sa.Engine:
    parsed = sa.make_url(url)
    name = parsed.get_backend_name()
    if name not in DIALECTS:
        raise Rejected(f"the database must be sqlite or postgresql, not {name}")
    if name == "postgresql":
        return sa.create_engine(
            parsed,
            pool_size=8,
            max_overflow=56,
            pool_pre_ping=True,
            connect_args={k: v for k, v in NOTICE_THE_DEAD.items() if k not in parsed.query},
            # without this the row count of an INSERT is -1, and a conflict would look like a success
            execution_options={"preserve_rowcount": True},
        )
    if not parsed.database or parsed.database == ":memory:":
        engine = sa.create_engine(
            parsed, poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False}
        )
    else:
        if not prepare and not Path(parsed.database).exists():
            raise NoTables(f"no node has run with the database {parsed.database} yet: start one")
        os.close(sqlite.private_file(parsed.database))
        engine = sa.create_engine(parsed, pool_size=8, max_overflow=56)
        sqlite.open_one(engine, identity)
    sqlite.prepare(engine)
    return engine
