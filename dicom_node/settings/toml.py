"""A TOML table -> a frozen dataclass of settings, or every error that names a wrong key and its line."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from analysis.errors import AnalysisError

from ..errors import NodeError, Rejected

T = TypeVar("T")


class _Wrong(Rejected):
    """A wrong key or value of the file, with its table and key.

    Parameters
    ----------
    table : str
        Path of the table, with the number of one of several: "destinations[1].tls".
    """

    def __init__(self, table: str, key: str, message: str) -> None:
        super().__init__(message)
        self.table, self.key = table, key


class _Wrongs(Rejected):
    """Everything that is wrong in the file."""

    def __init__(self, found: Sequence[_Wrong]) -> None:
        super().__init__("; ".join(str(one) for one in found))
        self.found = tuple(found)


def _build(cls: type[T], table: dict[str, Any], name: str) -> T:
    """Return the dataclass that a TOML table describes.

    Raises
    ------
    _Wrongs
        With everything that is wrong in the table and in those below it.
    """
    cls, table = _variant(cls, table, name)
    kinds = {key: kind for key, kind in get_type_hints(cls).items() if get_origin(kind) is not ClassVar}
    shown = re.sub(r"\[\d+\]", "", name)  # the line says which of several tables it is
    where = f" in [{shown}]" if name else ""
    found: list[_Wrong] = []
    values: dict[str, Any] = {}
    for key, raw in table.items():
        try:
            if key not in kinds:
                close = difflib.get_close_matches(key, kinds, 1)
                meant = f"; is '{close[0]}' meant?" if close else ""
                raise _Wrong(name, key, f"unknown key '{key}'{where}{meant}")
            values[key] = _value(kinds[key], raw, name, key)
        except _Wrong as error:
            found.append(error)
        except _Wrongs as errors:
            found += errors.found
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        missing = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if missing and item.name not in table:
            found.append(_Wrong(name, "", f"'{item.name}' is missing{where}"))
    if found:
        raise _Wrongs(found)
    try:
        return cls(**values)
    except (NodeError, AnalysisError) as error:
        raise _Wrongs([_Wrong(name, _culprit(cls, values), f"{error}{where}")]) from error


def _culprit(cls: type[Any], values: dict[str, Any]) -> str:
    """Return the key without which the values would be taken; "" where it is not one alone."""
    for key in values:
        try:
            cls(**{name: value for name, value in values.items() if name != key})
        except (NodeError, AnalysisError, TypeError):  # still wrong, or the key is required
            continue
        return key
    return ""


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
        raise _Wrongs([_Wrong(name, "kind", f"'kind' must be one of {', '.join(variants)}, not {kind!r}")])
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
        return tuple(_items(get_args(kind)[0], raw, table, key))
    if kind is Path and isinstance(raw, str):
        return Path(raw).expanduser()
    if kind is float and type(raw) is int:
        return float(raw)
    if type(raw) is not kind:
        name = getattr(kind, "__name__", str(kind))
        raise _Wrong(table, key, f"'{key}' must be {NAMES.get(name, name)}, not {raw!r}")
    return raw


def _items(kind: Any, raw: list[Any], table: str, key: str) -> Iterator[Any]:
    """Yield the values of a list, or raise everything that is wrong in it."""
    found: list[_Wrong] = []
    for number, item in enumerate(raw):
        try:
            if dataclasses.is_dataclass(kind) and isinstance(item, dict):
                below = f"{table}.{key}" if table else key
                yield _build(kind, item, f"{below}[{number}]")  # type: ignore[arg-type]
            else:
                yield _value(kind, item, table, key)
        except _Wrong as error:
            found.append(error)
        except _Wrongs as errors:
            found += errors.found
    if found:
        raise _Wrongs(found)


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
    found = _positions(text)
    below = f"{error.table}.{error.key}" if error.table else error.key
    places = (error.table, error.key), (below, ""), (f"{below}[0]", ""), (error.table, "")
    at = next((found[place] for place in places if place in found), 0)
    return f", line {at}" if at else ""


def _positions(text: str) -> dict[tuple[str, str], int]:
    """Return the line of each (path of the table, key), and of each table as (path, "")."""
    found: dict[tuple[str, str], int] = {}
    numbers: dict[str, int] = {}
    here = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[+)\s*([\w.\-]+)", line):
            *above, last = header[2].split(".")
            here = ""
            for part in above:
                here = f"{here}.{part}".lstrip(".")
                here += f"[{numbers[here]}]" if here in numbers else ""
            here = f"{here}.{last}".lstrip(".")
            if header[1] == "[[":
                numbers[here] = numbers.get(here, -1) + 1
                here += f"[{numbers[here]}]"
            found[here, ""] = number
        elif key := re.match(r"\s*[\"']?([\w\-]+)[\"']?\s*[=.]", line):
            found.setdefault((here, key[1]), number)
    return found
