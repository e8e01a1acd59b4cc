"""People and programs that may use the page: who they are, and what their role allows.

Passwords are kept as argon2id hashes, tokens and sessions as the SHA-256 of 256 random bits. There is no default
account.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from ..errors import Rejected
from ..store.database import Database
from ..store.page_tables import web_session, web_token, web_user

Role = Literal["viewer", "operator", "admin"]
#: What each role may do; a role may do what the roles before it may.
ROLES: Mapping[Role, str] = {
    "viewer": "look at studies and results, and mark results as reviewed",
    "operator": "also send images, decide for studies and jobs, and send results again",
    "admin": "also see the configuration and certificates",
}
SHORTEST, LONGEST = 10, 256
#: Hashing costs 64 MB and some time; several at one time would slow receiving.
_HASHING = threading.BoundedSemaphore(1)
#: RFC 9106's second choice: 64 MiB.
_HASHER = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1)


@dataclass(frozen=True)
class User:
    """Somebody who is known: a person, or a program with a token.

    Parameters
    ----------
    name : str
    role : {"viewer", "operator", "admin"}
    program : bool
        True where a token said who it is; a browser never sends one by itself.
    """

    name: str
    role: Role
    program: bool = False

    def may(self, role: Role) -> bool:
        """Return whether the user has this role or a higher one.

        Examples
        --------
        >>> User("anna", "operator").may("viewer"), User("anna", "operator").may("admin")
        (True, False)
        """
        order = list(ROLES)
        return order.index(self.role) >= order.index(role)


@dataclass(frozen=True)
class Account:
    """A user as `dicom-node user list` shows it."""

    name: str
    role: str
    disabled: bool
    created: float


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret of 256 random bits, under which it is kept."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def add(database: Database, name: str, role: Role, password: str, now: float) -> None:
    """Add a user.

    Raises
    ------
    Rejected
        Where the name is taken or no name, the role is unknown, or the password is too short.
    """
    _check(name, role)
    values = {"name": name, "role": role, "password": _hashed(password), "disabled": False, "created": now}
    with database.writing() as connection:
        if not connection.execute(
            database.insert(web_user).values(**values).on_conflict_do_nothing()
        ).rowcount:
            raise Rejected(f"there is a user {name} already")


def change_password(database: Database, name: str, password: str) -> None:
    """Give a user another password, and end every session of the user.

    Raises
    ------
    Rejected
        Where there is no such user, or the password is too short.
    """
    _change(database, name, {"password": _hashed(password)})


def disable(database: Database, name: str, disabled: bool = True) -> None:
    """Let a user in no more, and end every session of the user; or let the user in again.

    Raises
    ------
    Rejected
        Where there is no such user.
    """
    _change(database, name, {"disabled": disabled})


def accounts(database: Database) -> list[Account]:
    """Return every user, by name."""
    query = sa.select(web_user).order_by(web_user.c.name)
    with database.reading() as connection:
        return [Account(r.name, r.role, bool(r.disabled), r.created) for r in connection.execute(query)]


def verified(database: Database, name: str, password: str) -> User | None:
    """Return the user of this name and password, or None; a name that is unknown takes as long."""
    query = sa.select(web_user).where(web_user.c.name == name, ~web_user.c.disabled)
    with database.reading() as connection:
        row = connection.execute(query).one_or_none()
    with _HASHING:
        try:
            _HASHER.verify(row.password if row else _NOBODY, password)
        except VerificationError:
            return None
    return User(row.name, row.role) if row else None


def named(database: Database, name: str) -> User | None:
    """Return the user of this name whom somebody else has let in, e.g. a proxy; None where there is none."""
    query = sa.select(web_user).where(web_user.c.name == name, ~web_user.c.disabled)
    with database.reading() as connection:
        row = connection.execute(query).one_or_none()
    return User(row.name, row.role) if row else None


def add_token(database: Database, name: str, role: Role, now: float) -> str:
    """Make a token for a program and return it; only its digest is kept.

    Raises
    ------
    Rejected
        Where the name is taken or no name, or the role is unknown.
    """
    _check(name, role)
    token = secrets.token_urlsafe(32)
    values = {"name": name, "digest": digest(token), "role": role, "created": now}
    with database.writing() as connection:
        insert = database.insert(web_token).values(**values).on_conflict_do_nothing()
        if not connection.execute(insert).rowcount:
            raise Rejected(f"there is a token {name} already")
    return token


def remove_token(database: Database, name: str) -> None:
    """Forget a token.

    Raises
    ------
    Rejected
        Where there is no such token.
    """
    with database.writing() as connection:
        if not connection.execute(sa.delete(web_token).where(web_token.c.name == name)).rowcount:
            raise Rejected(f"there is no token {name}")


def tokens(database: Database) -> list[Account]:
    """Return every token's name and role."""
    query = sa.select(web_token).order_by(web_token.c.name)
    with database.reading() as connection:
        return [Account(r.name, r.role, False, r.created) for r in connection.execute(query)]


def of_token(database: Database, token: str) -> User | None:
    """Return the program that a token belongs to; None where nobody has it."""
    query = sa.select(web_token).where(web_token.c.digest == digest(token))
    with database.reading() as connection:
        row = connection.execute(query).one_or_none()
    return User(row.name, row.role, program=True) if row else None


def _check(name: str, role: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9._@-]{1,64}", name):
        raise Rejected("a name has 1 to 64 letters, digits and . _ @ -")
    if role not in ROLES:
        raise Rejected(f"a role is one of {', '.join(ROLES)}, not {role!r}")


def _hashed(password: str) -> str:
    if not SHORTEST <= len(password) <= LONGEST:
        raise Rejected(f"a password has {SHORTEST} to {LONGEST} characters")
    with _HASHING:
        return _HASHER.hash(password)


def _change(database: Database, name: str, values: Mapping[str, object]) -> None:
    with database.writing() as connection:
        changed = sa.update(web_user).where(web_user.c.name == name).values(**values)
        if not connection.execute(changed).rowcount:
            raise Rejected(f"there is no user {name}")
        connection.execute(sa.delete(web_session).where(web_session.c.user == name))


#: The hash of a password that nobody knows, so that an unknown name takes as long as a wrong password.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=1$lkUtw4rDQlZMKyRD/bUOYw$2lOd1dBc8VSNIieYONOo5f9prVA3S+AaQpXjxrzxqjM"
