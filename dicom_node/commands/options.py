"""What commands share: exit codes, and the configuration's option."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import Rejected

if TYPE_CHECKING:
    from ..settings.config import Config


#: Exit codes of every command.
OK, REFUSED, USAGE, UNAVAILABLE = 0, 1, 2, 3


EPILOG = (
    "Exit codes: 0 well; 1 refused: the images or a request cannot be used; 2 wrong usage or configuration; "
    "3 unavailable: port, disk, database or a peer, try again."
)


ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="TOML file, see deploy/node.toml. Without one: defaults on loopback."
    ),
]


def read_settings(path: Path | None) -> Config:
    from ..settings.config import Config, read_config

    try:
        return read_config(path) if path else Config()
    except Rejected as error:
        raise typer.BadParameter(str(error), param_hint="--config") from error
