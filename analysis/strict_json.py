"""Values <-> strict JSON without NaN and infinity (RFC 8259): frozen dataclasses, mappings, tuples, numbers."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
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
