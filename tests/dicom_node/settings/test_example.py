"""deploy/node.toml shows every key there is, under its own table, and no other."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

import dicom_node.settings
from dicom_node.settings.config import Config
from dicom_node.settings.layout import Layout

EXAMPLE = Path(__file__).parents[3] / "deploy" / "node.toml"
#: What lies in the package and is read from no file.
NO_SETTINGS = {Layout}


def dataclass_in(kind: Any) -> type | None:
    """Return the dataclass that a field holds, may hold, or holds several of."""
    if get_origin(kind) in (types.UnionType, Union, tuple):
        return next((found for part in get_args(kind) if (found := dataclass_in(part))), None)
    return kind if dataclasses.is_dataclass(kind) and isinstance(kind, type) else None


def walk(cls: type, table: str = "") -> Iterator[tuple[str, type, set[str]]]:
    """Yield (name of the table, dataclass, its keys), a row for each of its kinds where there are several."""
    kinds: list[type] = cls.__subclasses__()
    yield table, cls, {"kind"} if kinds else set()
    for variant in kinds or [cls]:
        hints = {n: k for n, k in get_type_hints(variant).items() if get_origin(k) is not ClassVar}
        parts = {name: part for name, kind in hints.items() if (part := dataclass_in(kind))}
        yield table, variant, set(hints) - set(parts)
        for name, part in parts.items():
            yield from walk(part, f"{table}.{name}".lstrip("."))


def keys_of_settings() -> set[tuple[str, str]]:
    return {(table, key) for table, _, keys in walk(Config) for key in keys}


def keys_of(text: str) -> set[tuple[str, str]]:
    """Return (table, key) of every line of a file that sets one, or would if its comment mark were gone."""
    found, table = set(), ""
    for line in text.splitlines():
        if header := re.fullmatch(r"#? ?\[+([\w.]+)\]+", line):
            table = header[1]
        elif key := re.match(r"#? ?(\w+) = \S", line):
            found.add((table, key[1]))
    return found


def test_every_key_stands_in_the_example_under_its_own_table_and_no_other_does() -> None:
    assert keys_of(EXAMPLE.read_text(encoding="utf-8")) == keys_of_settings()


def test_every_class_of_settings_is_a_table_of_the_configuration() -> None:
    modules = [
        importlib.import_module(f"{dicom_node.settings.__name__}.{found.name}")
        for found in pkgutil.iter_modules(dicom_node.settings.__path__)
    ]
    defined = {
        value
        for module in modules
        for value in vars(module).values()
        if dataclasses.is_dataclass(value) and getattr(value, "__module__", "") == module.__name__
    }
    assert defined - NO_SETTINGS <= {cls for _, cls, _ in walk(Config)}
