"""Every command is in the README with an example that can be typed, and has help for itself and its arguments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dicom_node.commands.app import COMMANDS, USER_COMMANDS, VALIDATE_COMMANDS, app

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (words that call it, command) of every command below a group."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(typer.main.get_command(app)))


def examples(text: str) -> list[list[str]]:
    """Return the words after `dicom-node` of every call in the shell blocks of a page; comments are no words."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S)
    calls = (call for block in blocks for line in block.splitlines() for call in line.split("&&"))
    words = (shlex.split(call, comments=True) for call in calls)
    return [found[1:] for found in words if found and Path(found[0]).name == "dicom-node"]


def command_of(words: list[str]) -> tuple[str, ...]:
    """Return the command that an example calls.

    Raises
    ------
    KeyError
        Where there is no such command.
    """
    path = next((tuple(words[:n]) for n in (1, 2) if tuple(words[:n]) in ALL), None)
    if path is None:
        raise KeyError(" ".join(words))
    return path


def test_every_row_of_the_tables_is_a_command() -> None:
    assert len(ALL) == len(COMMANDS) + len(VALIDATE_COMMANDS) + len(USER_COMMANDS)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_for_itself_and_for_its_arguments(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert (command.help or "").strip().endswith((".", ":"))
    assert [p.name for p in command.params if not getattr(p, "help", None) and p.name != "help"] == []


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_an_example_in_the_readme(path: tuple[str, ...]) -> None:
    assert path in [command_of(words) for words in examples(README)]


@pytest.mark.parametrize("words", examples(README), ids=" ".join)
def test_every_example_in_the_readme_can_be_typed_as_it_stands(words: list[str]) -> None:
    path = command_of(words)
    ALL[path].make_context(" ".join(path), words[len(path) :])  # raises where an argument is wrong or missing
