"""Logins: a session in the database for each, which ends; and a limit on wrong passwords."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

import sqlalchemy as sa

from ..errors import Unavailable
from ..settings.web import WebSettings
from ..store.database import Database
from ..store.page_tables import web_session, web_user
from . import users
from .problems import TooMany
from .users import User, digest

#: Window in which wrong passwords are counted (s), and most callers that are remembered.
WINDOW, CALLERS = 300.0, 10_000
#: An address may be wrong so many times as often as one user from it, since many people may share it.
PER_ADDRESS = 4
#: Interval at which the last request of a session is written down (s): a page that is open writes nothing else.
SEEN_SECONDS = 60.0


class Attempts:
    """Counts wrong passwords by user and address, in memory."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock, self._lock = most, clock, threading.Lock()
        self._wrong: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def check(self, name: str, address: str) -> None:
        """Refuse an attempt before the password is looked at.

        Raises
        ------
        TooMany
            Where too many passwords were wrong lately.
        """
        with self._lock:
            for key, most in self._limits(name, address):
                if len(self._recent(key)) >= most:
                    raise TooMany("too many wrong passwords: wait five minutes")

    def wrong(self, name: str, address: str) -> None:
        """Count one wrong password."""
        with self._lock:
            for key, _ in self._limits(name, address):
                self._wrong.setdefault(key, deque()).append(self._clock())
                self._wrong.move_to_end(key)
            while len(self._wrong) > CALLERS:
                self._wrong.popitem(last=False)

    def right(self, name: str, address: str) -> None:
        """Forget the wrong passwords of a user who knew the right one."""
        with self._lock:
            self._wrong.pop((name, address), None)

    def _limits(self, name: str, address: str) -> tuple[tuple[tuple[str, str], int], ...]:
        return ((name, address), self._most), (("", address), PER_ADDRESS * self._most)

    def _recent(self, key: tuple[str, str]) -> deque[float]:
        times = self._wrong.get(key, deque())
        while times and times[0] < self._clock() - WINDOW:
            times.popleft()
        return times


class Sessions:
    """The sessions of people who are logged in.

    Parameters
    ----------
    database : Database
    settings : WebSettings
    key : bytes
        Secret of this node, from which the tokens of forms are made.
    clock : callable
        Returns the current time (s since 1970).
    """

    def __init__(
        self, database: Database, settings: WebSettings, key: bytes, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._settings, self._key, self._clock = database, settings, key, clock
        self._attempts = Attempts(settings.login_attempts)
        self._seen: dict[str, float] = {}

    def login(self, name: str, password: str, address: str) -> str | None:
        """Return the secret of a new session, or None where name or password is wrong.

        Raises
        ------
        TooMany
            Where too many passwords were wrong lately.
        """
        self._attempts.check(name, address)
        user = users.verified(self._database, name[: users.LONGEST], password[: users.LONGEST + 1])
        if user is None:
            self._attempts.wrong(name, address)
            return None
        self._attempts.right(name, address)
        return self.begin(user)

    def begin(self, user: User) -> str:
        """Begin a session of a user who is known, end those that are over, and return its secret."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        with self._database.writing() as connection:
            connection.execute(sa.delete(web_session).where(self._over(now)))
            row = {"digest": digest(secret), "user": user.name, "created": now, "seen": now}
            connection.execute(sa.insert(web_session).values(**row))
        return secret

    def user(self, secret: str) -> User | None:
        """Return whose session this is; None where it has ended."""
        now, mark = self._clock(), digest(secret)
        query = (
            sa.select(web_user.c.name, web_user.c.role, web_session.c.seen)
            .join(web_session, web_session.c.user == web_user.c.name)
            .where(web_session.c.digest == mark, ~web_user.c.disabled)
            .where(web_session.c.created > now - 3600 * self._settings.session_hours)
        )
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            self._seen.pop(mark, None)
            return None
        seen = max(row.seen, self._seen.get(mark, 0.0))
        if seen <= now - 60 * self._settings.session_minutes:
            return None
        self._seen[mark] = now
        return User(row.name, row.role)

    def write_seen(self) -> None:
        """Write down when each session was last used; called now and then, since a page only reads."""
        seen, now = dict(self._seen), self._clock()
        with self._database.writing() as connection:
            for mark, at in seen.items():
                connection.execute(sa.update(web_session).where(web_session.c.digest == mark).values(seen=at))
        for mark, at in seen.items():
            if at < now - 60 * self._settings.session_minutes:
                self._seen.pop(mark, None)

    def end(self, secret: str) -> None:
        """End a session."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(web_session).where(web_session.c.digest == digest(secret)))
        self._seen.pop(digest(secret), None)

    def form_token(self, session: str) -> str:
        """Return what every form of a session must send back, which no other origin can know."""
        return hmac.new(self._key, b"form " + session.encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, session: str, token: str) -> bool:
        """Return whether a form of this session sent this token."""
        return hmac.compare_digest(self.form_token(session), token)

    def _over(self, now: float) -> sa.ColumnElement[bool]:
        return sa.or_(
            web_session.c.created <= now - 3600 * self._settings.session_hours,
            web_session.c.seen <= now - 60 * self._settings.session_minutes - SEEN_SECONDS,
        )


def keep_writing(sessions: Sessions, stopped: threading.Event) -> None:
    """Write down now and then when sessions were used, until the page stops."""
    while not stopped.wait(SEEN_SECONDS):
        try:
            sessions.write_seen()
        except Unavailable:
            continue
