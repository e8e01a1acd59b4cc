"""Analysis <-> one file, ``.npz``: its arrays as they are, and the rest as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from ..errors import Rejected
from ..strict_json import build, encode
from ..volume import Grid

if TYPE_CHECKING:
    from .pipeline import Analysis

#: The entry that holds what is no array, as JSON.
REST = "rest"


def parts(analysis: Analysis) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays of an analysis by name, and the rest of it."""
    arrays: dict[str, NDArray[Any]] = {}
    rest: dict[str, Any] = {}
    for field in fields(analysis):
        value = getattr(analysis, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif isinstance(value, Grid):
            rest[field.name] = {"shape": value.shape, "affine": value.affine.tolist()}
        elif field.name == "maps":
            arrays |= {f"maps {name}": array for name, array in value.items()}
        else:
            rest[field.name] = value
    return arrays, rest


def joined(cls: type[Analysis], rest: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Analysis:
    """Return the analysis whose `parts` these are; ``rest`` decoded from JSON."""
    hints = get_type_hints(cls)
    maps = {name.removeprefix("maps "): array for name, array in arrays.items() if name.startswith("maps ")}
    values: dict[str, Any] = {name: array for name, array in arrays.items() if not name.startswith("maps ")}
    for name, value in rest.items():
        if hints[name] is Grid:
            values[name] = Grid(tuple(value["shape"]), np.array(value["affine"]))
        else:
            values[name] = build(hints[name], value)
    return cls(**values, maps=maps)


def save(analysis: Analysis, path: Path) -> None:
    """Write an analysis into a file; see `pipeline.Analysis.save`."""
    arrays, rest = parts(analysis)
    with path.open("wb") as file:
        text = np.array(encode({"analysis": rest}))
        np.savez_compressed(file, allow_pickle=False, **{REST: text}, **arrays)


def load(cls: type[Analysis], path: Path) -> Analysis:
    """Read an analysis; see `pipeline.Analysis.load`."""
    if not path.is_file():
        raise Rejected(f"{path} is not there")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return joined(cls, json.loads(str(arrays.pop(REST)))["analysis"], arrays)
    except Exception as error:  # the boundary: numpy's reader of damaged bytes alone raises a dozen kinds
        raise Rejected(f"{path} holds no analysis this version can read ({type(error).__name__})") from error
