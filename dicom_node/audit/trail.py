"""Events in the node -> a spool in the database -> the audit repository, for which nothing waits.

Transfers are reported once for each study, peer and direction when these have been quiet, not for every image. Alerts
are counted in memory for a second, so that ten thousand rejections of one peer make one message and one commit.
"""

from __future__ import annotations

import getpass
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

import sqlalchemy as sa

from ..errors import Unavailable
from ..settings.config import AuditSettings
from ..store.database import Database
from ..store.due import is_due
from ..store.tables import audit_spool, audit_transfer
from . import messages as audit_message
from . import syslog
from .messages import AlertKind, Party

LOG = logging.getLogger(__name__)

#: Most messages sent at one time.
BATCH = 200
#: Most different alerts kept between two flushes; further ones are only logged.
ALERTS = 500
#: Time without images received or sent after which a study's transfers are reported (s).
QUIET_SECONDS = 30.0
#: Pause after a repository could not be reached (s).
PAUSE_SECONDS = 15.0

Direction = Literal["import", "export"]


class Trail:
    """The audit trail of one process of a node; without settings, nothing is reported.

    Parameters
    ----------
    database : Database
    settings : AuditSettings or None
    ae_title : str
        AE title of the node.
    """

    def __init__(self, database: Database, settings: AuditSettings | None, ae_title: str) -> None:
        self._database, self._settings = database, settings
        self._own = Party(ae_title, own=True)
        self._alerts: Counter[tuple[AlertKind, Party, str]] = Counter()
        self._lock = threading.Lock()
        self._not_before = 0.0

    def activity(self, started: bool) -> None:
        """Report that the node starts or stops."""
        if self._settings is not None:
            now = time.time()
            with self._database.writing() as connection:
                self._spool(connection, [audit_message.activity(self._own, started, now)], now)

    def operated(self, what: str, user: str = "") -> None:
        """Report what a person decided, e.g. "cancel job 7", without patient data.

        Parameters
        ----------
        user : str
            Name on the page; "" for the operating system's user, who typed a command.
        """
        self._tell_of_person(user, lambda user, now: audit_message.operated(self._own, user, what, now))

    def exported(self, study_uid: str, user: str = "") -> None:
        """Report that a person wrote images or results of a study into a folder, or downloaded them."""
        self._tell_of_person(user, lambda user, now: audit_message.exported(self._own, user, study_uid, now))

    def authenticated(self, user: str, address: str, entered: bool, well: bool) -> None:
        """Report that somebody logged in to the page or out of it, or tried to."""
        self._tell_of_person(
            user,
            lambda user, now: audit_message.authenticated(self._own, user, address, entered, well, now),
        )

    def accessed(self, study_uid: str, user: str) -> None:
        """Report that a person looked at a study or its result on the page."""
        self._tell_of_person(user, lambda user, now: audit_message.accessed(self._own, user, study_uid, now))

    def queried(self, user: str) -> None:
        """Report that a person searched on the page."""
        self._tell_of_person(user, lambda user, now: audit_message.queried(self._own, user, now))

    def deleted(self, connection: sa.Connection, study_uid: str) -> None:
        """Report, in the caller's transaction, that a study was removed."""
        if self._settings is not None:
            now = time.time()
            self._spool(connection, [audit_message.deleted(self._own, study_uid, now)], now)

    def _tell_of_person(self, user: str, message: Callable[[str, float], bytes]) -> None:
        if self._settings is not None:
            now = time.time()
            with self._database.writing() as connection:
                self._spool(connection, [message(user or getpass.getuser(), now)], now)

    def transferred(
        self,
        connection: sa.Connection,
        direction: Direction,
        peer: str,
        study_uid: str,
        counts: Mapping[str, int],
    ) -> None:
        """Report, in the caller's transaction, that instances were received or sent.

        Parameters
        ----------
        peer : str
            AE title or name of the other side.
        counts : mapping of SOP Class UID to int
        """
        if self._settings is None:
            return
        for uid, count in counts.items():
            row = {"direction": direction, "study_uid": study_uid, "peer": peer, "sop_class_uid": uid}
            insert = self._database.insert(audit_transfer).values(**row, instances=count, last_at=time.time())
            more = {
                "instances": audit_transfer.c.instances + insert.excluded.instances,
                "last_at": insert.excluded.last_at,
            }
            connection.execute(insert.on_conflict_do_update(index_elements=list(row), set_=more))

    def alert(self, kind: AlertKind, ae_title: str, address: str, reason: str) -> None:
        """Count something that was prevented; the next `flush` reports it."""
        if self._settings is None:
            return
        key = kind, Party(ae_title, address), reason
        with self._lock:
            if key in self._alerts or len(self._alerts) < ALERTS:
                self._alerts[key] += 1

    def flush(self) -> None:
        """Spool the alerts that were counted so far.

        Raises
        ------
        Unavailable
            Where the database cannot be reached; the alerts are kept.
        """
        with self._lock:
            alerts, self._alerts = self._alerts, Counter()
        if not alerts:
            return
        now = time.time()
        told = [
            audit_message.alert(self._own, kind, peer, reason if n == 1 else f"{reason} ({n} times)", now)
            for (kind, peer, reason), n in alerts.items()
        ]
        try:
            with self._database.writing() as connection:
                self._spool(connection, told, now, syslog.WARNING)
        except Unavailable:
            with self._lock:
                self._alerts.update(alerts)
            raise

    def send(self) -> None:
        """Spool the transfers that are due and send the spool; a message leaves it once it was accepted."""
        if self._settings is None:
            return
        self.flush()
        self.tell(QUIET_SECONDS)
        if time.monotonic() < self._not_before:
            return
        query = sa.select(audit_spool.c.id, audit_spool.c.line).order_by(audit_spool.c.id).limit(BATCH)
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(query).all()
            if not rows:
                return
            try:
                syslog.send(self._settings, [row.line for row in rows])
            except Unavailable:
                self._not_before = time.monotonic() + PAUSE_SECONDS
                raise
            with self._database.writing() as connection:
                taken = audit_spool.c.id.in_([row.id for row in rows])
                connection.execute(sa.delete(audit_spool).where(taken))

    def tell(self, quiet: float) -> None:
        """Spool the transfers that have been quiet for `quiet` seconds."""
        now, of = time.time(), (audit_transfer.c.direction, audit_transfer.c.study_uid, audit_transfer.c.peer)
        last = sa.func.max(audit_transfer.c.last_at)
        still = is_due(last + quiet, now, 2 * quiet)
        with self._database.reading() as connection:
            if not (ended := connection.execute(sa.select(*of).group_by(*of).having(still)).all()):
                return
        with self._database.writing() as connection:
            for direction, study_uid, peer in ended:
                mine = [
                    column == value for column, value in zip(of, (direction, study_uid, peer), strict=True)
                ]
                rows = connection.execute(sa.select(audit_transfer).where(*mine)).all()
                counts = {row.sop_class_uid: row.instances for row in rows}
                at = max((row.last_at for row in rows), default=now)
                sides = (Party(peer), self._own) if direction == "import" else (self._own, Party(peer))
                told = audit_message.transferred(self._own, *sides, study_uid, counts, at)
                self._spool(connection, [told], now)
                connection.execute(sa.delete(audit_transfer).where(*mine))

    def _spool(
        self, connection: sa.Connection, messages: list[bytes], at: float, priority: int = syslog.NOTICE
    ) -> None:
        """Append messages to the spool, dropping the oldest where it is full."""
        assert self._settings is not None
        rows: list[dict[str, Any]] = [{"line": syslog.line(message, priority, at)} for message in messages]
        connection.execute(sa.insert(audit_spool), rows)
        newest = connection.scalar(sa.select(sa.func.max(audit_spool.c.id))) or 0
        too_old = audit_spool.c.id <= newest - self._settings.max_messages
        if dropped := connection.execute(sa.delete(audit_spool).where(too_old)).rowcount:
            LOG.error("audit spool full: the %d oldest messages dropped", dropped)
