"""Values <-> strict JSON without NaN and infinity; each file names its schema, and one file name has one schema."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from .errors import Rejected

T = TypeVar("T")


def encode(value: object, indent: int | None = None) -> str:
    """Return a value as strict JSON (RFC 8259); NaN and infinity become null, a dataclass an object.

    Examples
    --------
    >>> encode({"mean": float("nan"), "region": ("left", "right")})
    '{"mean": null, "region": ["left", "right"]}'
    """
    return json.dumps(_plain(value), allow_nan=False, indent=indent)


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
    path.write_text(encode({"schema": schema, **content}, indent=1) + "\n", encoding="utf-8")


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
    plain = _plain(dataclasses.asdict(cast(Any, value)))
    return json.dumps(plain, allow_nan=False, separators=(",", ":"), sort_keys=True)


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


def build(kind: Any, raw: Any) -> Any:
    """Return a value of the type `kind` (e.g. of a dataclass field) from its decoded JSON."""
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return cast(Any, kind)(**{name: build(hints[name], item) for name, item in raw.items()})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and raw is not None:
        kinds = arguments[:1] * len(raw) if arguments[-1] is ... else arguments
        return tuple(build(k, item) for k, item in zip(kinds, raw, strict=True))
    if origin is Mapping:
        return {name: build(arguments[1], item) for name, item in raw.items()}
    if origin in (Union, types.UnionType):
        return None if raw is None else build(next(a for a in arguments if a is not type(None)), raw)
    if kind is float and raw is None:
        return math.nan
    return raw if origin is Literal or raw is None else kind(raw)


def _plain(value: Any) -> Any:
    """Return a value as the types that strict JSON has: objects, arrays, texts, finite numbers, null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float):  # numpy's float64 is one
        return float(value) if math.isfinite(value) else None
    return value
