"""The commands for people and programs that use the page: user add, disable, enable, password, list, token."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from ..errors import Rejected
from .options import ConfigPath, read_settings

if TYPE_CHECKING:
    from ..store.database import Database

Name = Annotated[str, typer.Argument(help="Letters, digits and . _ @ -")]
RoleOption = Annotated[
    Literal["viewer", "operator", "admin"],
    typer.Option(
        help="viewer: looks and marks as reviewed; operator: also sends images and decides; "
        "admin: also sees the configuration."
    ),
]


def user_add(name: Name, role: RoleOption = "viewer", config: ConfigPath = None) -> None:
    """Add a user of the page; the password is asked for, or read from standard input."""
    from ..web import users

    users.add(_database(config), name, role, _password(), time.time())
    print(f"user {name} is added with the role {role}")


def user_password(name: Name, config: ConfigPath = None) -> None:
    """Give a user another password, and end the user's sessions."""
    from ..web import users

    users.change_password(_database(config), name, _password())
    print(f"user {name} has another password; all sessions of {name} have ended")


def user_disable(name: Name, config: ConfigPath = None) -> None:
    """Let a user in no more, and end the user's sessions."""
    from ..web import users

    users.disable(_database(config), name)
    print(f"user {name} is let in no more")


def user_enable(name: Name, config: ConfigPath = None) -> None:
    """Let a user in again."""
    from ..web import users

    users.disable(_database(config), name, disabled=False)
    print(f"user {name} is let in again")


def user_list(config: ConfigPath = None) -> None:
    """List the users of the page, and the tokens of programs."""
    from ..web import users

    database = _database(config)
    table = Table("name", "kind", "role", "", "since")
    for kind, found in (("user", users.accounts(database)), ("token", users.tokens(database))):
        for one in found:
            since = datetime.fromtimestamp(one.created).strftime("%Y-%m-%d")
            table.add_row(one.name, kind, one.role, "disabled" if one.disabled else "", since)
    Console().print(table)


def user_token(
    name: Name,
    role: RoleOption = "operator",
    remove: Annotated[bool, typer.Option("--remove", help="Forget the token of this name.")] = False,
    config: ConfigPath = None,
) -> None:
    """Make a token for a program that uses the API or sends by STOW-RS; it is shown only once."""
    from ..web import users

    database = _database(config)
    if remove:
        users.remove_token(database, name)
        print(f"token {name} is forgotten")
    else:
        print(users.add_token(database, name, role, time.time()))


def _database(config: ConfigPath) -> Database:
    from ..store.database import Database

    return Database(read_settings(config).database_url)


def _password() -> str:
    """Return a password that is typed twice, or the first line of standard input where no person sits there."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = str(typer.prompt("Password", hide_input=True))
    if first != typer.prompt("Again", hide_input=True):
        raise Rejected("the two passwords differ")
    return first
