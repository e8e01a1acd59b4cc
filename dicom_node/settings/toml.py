"""A TOML table -> a frozen dataclass of settings, or an error that names the wrong key and its line."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from analysis.errors import AnalysisError

from ..errors import NodeError, Rejected

T = TypeVar("T")


class _Wrong(Rejected):
    """A wrong key or value of the file, with its table and key."""

    def __init__(self, table: str, key: str, message: str) -> None:
        super().__init__(message)
        self.table, self.key = table, key


def _build(cls: type[T], table: dict[str, Any], name: str) -> T:
    """Return the dataclass that a TOML table describes."""
    cls, table = _variant(cls, table, name)
    kinds = {key: kind for key, kind in get_type_hints(cls).items() if get_origin(kind) is not ClassVar}
    where = f" in [{name}]" if name else ""
    for key in table:
        if key not in kinds:
            close = difflib.get_close_matches(key, kinds, 1)
            raise _Wrong(
                name, key, f"unknown key '{key}'{where}" + (f"; is '{close[0]}' meant?" if close else "")
            )
    values = {key: _value(kinds[key], raw, name, key) for key, raw in table.items()}
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        missing = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if missing and item.name not in values:
            raise _Wrong(name, "", f"'{item.name}' is missing{where}")
    try:
        return cls(**values)
    except (NodeError, AnalysisError) as error:
        if isinstance(error, _Wrong):
            raise
        raise _Wrong(name, "", f"{error}{where}") from error


def build(cls: type[T], table: dict[str, Any], name: str) -> T:
    """Return the dataclass that a table of decoded TOML describes; ``name`` is the table's.

    Raises
    ------
    Rejected
        Where a key is unknown or a value is wrong.
    """
    return _build(cls, table, name)


def _variant(cls: type[T], table: dict[str, Any], name: str) -> tuple[type[T], dict[str, Any]]:
    """Return the dataclass that the key `kind` names among several; without that key, the first one."""
    variants = {getattr(variant, "kind", ""): variant for variant in cls.__subclasses__()}
    if not variants:
        return cls, table
    kind = table.get("kind", next(iter(variants)))
    if kind not in variants:
        raise _Wrong(name, "kind", f"'kind' must be one of {', '.join(variants)}, not {kind!r}")
    return variants[kind], {key: value for key, value in table.items() if key != "kind"}


def _value(kind: Any, raw: Any, table: str, key: str) -> Any:
    if get_origin(kind) in (types.UnionType, Union):
        kind = next(k for k in get_args(kind) if k is not type(None))
    if get_origin(kind) is Literal:
        if raw not in get_args(kind):
            raise _Wrong(table, key, f"'{key}' must be one of {', '.join(get_args(kind))}, not {raw!r}")
        return raw
    if dataclasses.is_dataclass(kind) and isinstance(raw, dict):
        return _build(kind, raw, f"{table}.{key}" if table else key)  # type: ignore[arg-type]
    if get_origin(kind) is tuple and isinstance(raw, list):
        return tuple(_value(get_args(kind)[0], item, table, key) for item in raw)
    if kind is Path and isinstance(raw, str):
        return Path(raw).expanduser()
    if kind is float and type(raw) is int:
        return float(raw)
    if type(raw) is not kind:
        name = getattr(kind, "__name__", str(kind))
        raise _Wrong(table, key, f"'{key}' must be {NAMES.get(name, name)}, not {raw!r}")
    return raw


#: The names of the types of a TOML file in messages.
NAMES = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "Path": "a text",
}


def _line(text: str, error: _Wrong) -> str:
    """Return ``", line 7"``, where the key or else its table stands in the file; "" where neither is found."""
    here, found = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([\w.\-]+)", line):
            here = header[1]
            found = number if here == error.table and not error.key else found
        elif (
            error.key
            and here == error.table
            and re.match(rf"\s*[\"']?{re.escape(error.key)}[\"']?\s*[=.]", line)
        ):
            return f", line {number}"
        if error.key and header and here == (f"{error.table}.{error.key}" if error.table else error.key):
            return f", line {number}"
    return f", line {found}" if found else ""
