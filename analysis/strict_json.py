"""Values <-> strict JSON without NaN and infinity (RFC 8259): frozen dataclasses, mappings, tuples, numbers."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints


def encode(value: object, indent: int | None = None) -> str:
    """Return a value as strict JSON (RFC 8259); NaN and infinity become null, a dataclass an object.

    Examples
    --------
    >>> encode({"mean": float("nan"), "region": ("left", "right")})
    '{"mean": null, "region": ["left", "right"]}'
    """
    return json.dumps(plain(value), allow_nan=False, indent=indent)


def build(kind: Any, raw: Any) -> Any:
    """Return a value of the type `kind` (e.g. of a dataclass field) from its decoded JSON."""
    return _builder(kind)(raw)


@functools.cache
def _builder(kind: Any) -> Callable[[Any], Any]:
    """Return what makes a value of a type; types are looked into once, since a study has hundreds of headers."""
    if dataclasses.is_dataclass(kind):
        own = {name: _builder(hint) for name, hint in get_type_hints(kind).items()}
        return lambda raw: cast(Any, kind)(**{name: own[name](item) for name, item in raw.items()})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and arguments[-1] is ...:
        every = _builder(arguments[0])
        return lambda raw: None if raw is None else tuple(every(item) for item in raw)
    if origin is tuple:
        each = [_builder(argument) for argument in arguments]
        return lambda raw: None if raw is None else tuple(b(i) for b, i in zip(each, raw, strict=True))
    if origin is Mapping:
        one = _builder(arguments[1])
        return lambda raw: {name: one(item) for name, item in raw.items()}
    if origin in (Union, types.UnionType):
        some = _builder(next(a for a in arguments if a is not type(None)))
        return lambda raw: None if raw is None else some(raw)
    if kind is float:
        return lambda raw: math.nan if raw is None else float(raw)
    return lambda raw: raw if origin is Literal or raw is None else kind(raw)


def plain(value: Any) -> Any:
    """Return a value as the types that strict JSON has: objects, arrays, texts, finite numbers, null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, float):  # numpy's float64 is one
        return float(value) if math.isfinite(value) else None
    return value
