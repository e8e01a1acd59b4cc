"""The program ``dicom-node``: arguments in, exit code and one sentence out.

A command is one function of `analyse`, `node`, `research` or `demo`, with a row in `COMMANDS`. Only `options`
configures logs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from analysis.errors import AnalysisError

from ..errors import NodeError, Unavailable
from ..printable import printable
from . import analyse, demo, node, research, user
from .options import EPILOG, REFUSED, UNAVAILABLE

#: Every command, in the order in which ``--help`` lists them; a command is called as its function is.
COMMANDS: tuple[Callable[..., None], ...] = (
    *(analyse.run_, analyse.batch_),
    *(research.export_, research.compare_, research.deidentify_, research.cohort_),
    *(node.serve, node.status, node.health, node.check_config, node.conformance),
    *(node.retry, node.cancel, node.force, node.assign, node.reread, demo.demo_),
)
VALIDATE_COMMANDS: tuple[Callable[..., None], ...] = (
    research.validate_phantom,
    research.validate_twin,
    research.validate_landmarks,
)
USER_COMMANDS: tuple[Callable[..., None], ...] = (
    *(user.user_add, user.user_list, user.user_password),
    *(user.user_disable, user.user_enable, user.user_token),
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"vq-dicom-node {version('vq-dicom-node')}")
        raise typer.Exit


app = typer.Typer(
    name="dicom-node",
    help="Lung ventilation/perfusion maps from inspiratory and expiratory CT, as a DICOM node. Research use.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
validate_app = typer.Typer(
    help="Measure how good the results are, where the truth is known; writes a report with pictures.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


user_app = typer.Typer(
    help="Say who may use the page and the API; nobody may, until a user is added.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and end.")
    ] = False,
) -> None:
    """Lung ventilation/perfusion maps from inspiratory and expiratory CT, as a DICOM node. Research use."""


app.add_typer(validate_app, name="validate")
app.add_typer(user_app, name="user")
for function in COMMANDS:
    app.command(function.__name__.strip("_").replace("_", "-"), epilog=EPILOG)(function)
for function in VALIDATE_COMMANDS:
    validate_app.command(function.__name__.removeprefix("validate_"), epilog=EPILOG)(function)
for function in USER_COMMANDS:
    user_app.command(function.__name__.removeprefix("user_"), epilog=EPILOG)(function)

#: What a command's error means for the shell.
CODES: tuple[tuple[type[Exception], int], ...] = (
    (Unavailable, UNAVAILABLE),
    (NodeError, REFUSED),
    (AnalysisError, REFUSED),
)


def main() -> None:
    """Run the command line; an error a person can act on is one sentence, not a trace."""
    # Waiting threads must sleep: spinning made the registration ten times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except (NodeError, AnalysisError) as error:
        print(f"dicom-node: {printable(str(error))}", file=sys.stderr)
        sys.exit(next(code for kind, code in CODES if isinstance(error, kind)))
    except OSError as error:  # a disk that went away or is read-only, no file handles left
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"dicom-node: {printable(f'{where}{error.strerror}')}", file=sys.stderr)
        sys.exit(UNAVAILABLE)
