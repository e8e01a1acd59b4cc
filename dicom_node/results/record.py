"""Analysis <-> its record, `analysis.npz`: all of it, whole, kept beside the DICOM objects that show parts of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from analysis.pipeline.pipeline import Analysis
from analysis.volume import Grid

from ..errors import Rejected
from ..strict_json import build, encode

NAME = "analysis.npz"
#: The entry that holds what is no array, as JSON.
REST = "rest"


@dataclass(frozen=True, eq=False)
class Record:
    """Hold a result and what it was made from.

    Parameters
    ----------
    analysis : Analysis
    patient : str
        A key shared by all studies of a patient, neither name nor ID; "" where the images do not say.
    inspiration, expiration : str
        Series Instance UIDs.
    acquired : str
        When expiration was acquired, "YYYYMMDD…" as far as known.
    pairing : str
        The evidence for which phase is which.
    """

    analysis: Analysis
    patient: str
    inspiration: str
    expiration: str
    acquired: str
    pairing: str = ""

    def dump(self) -> bytes:
        """Return the record's bytes; the same result makes the same bytes."""
        arrays: dict[str, NDArray[Any]] = {}
        rest: dict[str, Any] = {}
        for field in fields(self.analysis):
            value = getattr(self.analysis, field.name)
            if isinstance(value, np.ndarray):
                arrays[field.name] = value
            elif isinstance(value, Grid):
                rest[field.name] = {"shape": value.shape, "affine": value.affine.tolist()}
            elif field.name == "maps":
                arrays |= {f"maps {name}": array for name, array in value.items()}
            else:
                rest[field.name] = value
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "analysis"}
        text = encode({"analysis": rest, **own})
        buffer = BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **{REST: np.array(text)}, **arrays)
        return buffer.getvalue()


def read_record(path: Path) -> Record:
    """Read the record that a file holds.

    Raises
    ------
    Rejected
        Where there is no record, it is damaged, or another version wrote it in another format.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        own = json.loads(str(arrays.pop(REST)))
        return Record(**{**own, "analysis": _analysis(own["analysis"], arrays)})
    except (FileNotFoundError, NotADirectoryError):
        raise Rejected(f"{path} is not there") from None
    except Exception as error:  # the boundary: numpy's reader of damaged bytes alone raises a dozen kinds
        raise Rejected(
            f"{path} is not a record that this version can read ({type(error).__name__})"
        ) from error


def _analysis(rest: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Analysis:
    hints = get_type_hints(Analysis)
    maps = {name.removeprefix("maps "): array for name, array in arrays.items() if name.startswith("maps ")}
    values: dict[str, Any] = {name: array for name, array in arrays.items() if not name.startswith("maps ")}
    for name, value in rest.items():
        if hints[name] is Grid:
            values[name] = Grid(tuple(value["shape"]), np.array(value["affine"]))
        else:
            values[name] = build(hints[name], value)
    return Analysis(**values, maps=maps)
