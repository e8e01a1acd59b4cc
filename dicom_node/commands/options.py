"""What commands share: exit codes, the configuration's option, the log."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import Rejected
from ..printable import PrintableFormatter

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


#: Libraries that log the values of attributes, or every association: of them only what is critical is kept.
TALKATIVE = frozenset({"pydicom", "pynetdicom", "highdicom", "apscheduler"})


def _ours(record: logging.LogRecord) -> bool:
    """Return whether a record is kept. A library's own level would not do: pydicom sets it when it is imported."""
    return record.levelno >= logging.CRITICAL or record.name.split(".")[0] not in TALKATIVE


def configure_logging() -> None:
    """Log to stderr: UIDs and job numbers, never patient data (children of the node call this too)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_ours)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    warnings.simplefilter("ignore")


def read_settings(path: Path | None) -> Config:
    from ..settings.config import Config, read_config

    try:
        return read_config(path) if path else Config()
    except Rejected as error:
        raise typer.BadParameter(str(error), param_hint="--config") from error
