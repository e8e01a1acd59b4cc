"""The nodes on one database: who lives, by the database's clock, and who may do what only one does at a time.

A node writes the time of its last word (`Member.beat`) with every tick. One that has said nothing for `LEASE_SECONDS`
is forgotten by the others, and from then on its jobs and deliveries are anybody's. Nobody judges before it has
itself spoken, without a gap, for that long: after an outage of the database every node has been silent.
"""

from __future__ import annotations

import logging
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from ..errors import Unavailable
from .database import Database, lock_number
from .tables import member

LOG = logging.getLogger(__name__)

#: Silence after which the other nodes take over what a node was at work on (s).
LEASE_SECONDS = 30.0
#: The time of the database's clock (s since 1970).
NOW: Mapping[str, Any] = {
    "sqlite": sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Float),
    "postgresql": sa.literal_column("extract(epoch FROM clock_timestamp())", sa.Float),
}


class Member:
    """This node among those on its database.

    Parameters
    ----------
    database : Database
    lease : float
        Silence after which a node counts as gone (s).
    clock : callable
        Returns a time that is never set (s).

    Attributes
    ----------
    name : str
        Name under which this node owns jobs, deliveries and drafts, anew for each start.
    """

    def __init__(
        self, database: Database, lease: float = LEASE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self._database, self._lease, self._clock = uuid.uuid4().hex, database, lease, clock
        self._spoke = self._steady_since = clock()

    def join(self, alone: bool) -> None:
        """Become a member.

        Parameters
        ----------
        alone : bool
            True where no other node uses the storage, so that the members that are left are of nodes that ended.
        """
        with self._database.writing() as connection:
            if alone:
                connection.execute(sa.delete(member))
            self._speak(connection)

    def beat(self) -> None:
        """Say that this node lives, and forget those that have said nothing for too long.

        Raises
        ------
        Unavailable
            Where the database cannot be reached.
        """
        with self._database.writing() as connection:
            self._speak(connection)
            now = self._clock()
            if now - self._spoke > self._lease / 2:
                self._steady_since = now
            self._spoke = now
            if now - self._steady_since >= self._lease:
                self._forget(connection)

    def leave(self) -> None:
        """Cease to be a member: the others need not wait."""
        with suppress(Unavailable), self._database.writing() as connection:
            connection.execute(sa.delete(member).where(member.c.name == self.name))

    def in_turn(self, name: str, step: Callable[[], object]) -> None:
        """Call a step, unless another node is in it now.

        The turn is an advisory lock of a connection of its own: it ends with the step, with this process, and with
        the connection. So a step that goes on while the database is restarted may meet another node in it; each
        step must bear that, and what it writes is written under conditions of its own.
        """
        if not self._database.is_shared:
            step()
            return
        number = lock_number(name)
        with self._database.session() as connection:
            if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(number))):
                return
            try:
                step()
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(number)))

    def _speak(self, connection: sa.Connection) -> None:
        now = NOW[connection.dialect.name]
        insert = self._database.insert(member).values(
            name=self.name, host=socket.gethostname()[:255], seen_at=now
        )
        connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"seen_at": now}))

    def _forget(self, connection: sa.Connection) -> None:
        silent = member.c.seen_at < NOW[connection.dialect.name] - self._lease
        gone = connection.execute(sa.select(member.c.host).where(silent)).scalars().all()
        if gone:
            connection.execute(sa.delete(member).where(silent))
            LOG.warning(
                "%d nodes have said nothing for %g s: their work is taken over", len(gone), self._lease
            )


def owned_by_nobody_else(owner: Any, name: str) -> sa.ColumnElement[bool]:
    """Return the condition that a row is free for a node: it is its own, nobody's, or of a node that is gone."""
    return sa.or_(owner == name, owner.not_in(sa.select(member.c.name)))
