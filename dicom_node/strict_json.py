"""Frozen dataclasses <-> strict JSON: no NaN, one schema a file name."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def dump(value: object) -> str:
    """A frozen dataclass as JSON; `load` brings it back."""
    return json.dumps(dataclasses.asdict(cast(Any, value)), separators=(",", ":"), sort_keys=True)


def load(cls: type[T], text: str) -> T:
    """The value of dataclass `cls` that `dump` wrote.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Point:
    ...     xy: tuple[float, ...]
    >>> load(Point, dump(Point((1.0, 2.0))))
    Point(xy=(1.0, 2.0))
    """
    return cast(T, build(cls, json.loads(text)))


def build(kind: Any, raw: Any) -> Any:
    """The value of a type, a dataclass' field's say, from what JSON makes of it."""
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
    return raw if origin is Literal or raw is None else kind(raw)
