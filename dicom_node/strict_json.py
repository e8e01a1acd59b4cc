"""Values <-> strict JSON without NaN and infinity; each file names its schema, and one file name has one schema."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from analysis.strict_json import build, encode, plain

from .errors import Rejected

__all__ = ["build", "dump", "encode", "load", "read_json", "write_json"]

T = TypeVar("T")


def write_json(path: Path, schema: str, content: Mapping[str, object]) -> None:
    """Write a JSON file that names its schema first.

    Parameters
    ----------
    schema : str
        Name and version of the file's schema, e.g. ``"vq-dicom-node measures 1"``.
    content : mapping
        Values that `encode` accepts.

    Raises
    ------
    OSError
        Where the file cannot be written.
    """
    path.write_bytes(json_bytes(schema, content))


def json_bytes(schema: str, content: Mapping[str, object]) -> bytes:
    """Return the bytes of a JSON file that names its schema first."""
    return (encode({"schema": schema, **content}, indent=1) + "\n").encode()


def read_json(path: Path, schema: str) -> dict[str, Any]:
    """Return the content that `write_json` wrote under this schema.

    Raises
    ------
    Rejected
        Where the file is not JSON or names another schema.
    OSError
        Where the file cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Rejected(f"{path} is not JSON") from error
    named = found.get("schema") if isinstance(found, dict) else None
    if named != schema:
        raise Rejected(
            f"{path} has the schema {named!r}, expected {schema!r}: make it again with this version"
        )
    return dict(found)


def dump(value: object) -> str:
    """Return a frozen dataclass as compact JSON, which `load` reads back."""
    fields = plain(dataclasses.asdict(cast(Any, value)))
    return json.dumps(fields, allow_nan=False, separators=(",", ":"), sort_keys=True)


def load(cls: type[T], text: str) -> T:
    """Return the value of dataclass `cls` that `dump` wrote.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Point:
    ...     xy: tuple[float, ...]
    >>> load(Point, dump(Point((1.0, float("nan")))))
    Point(xy=(1.0, nan))
    """
    return cast(T, build(cls, json.loads(text)))
