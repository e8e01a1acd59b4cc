"""A result's numbers <-> ``measures.json``, the same file whoever writes it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.limits_of_use import RESEARCH_USE
from analysis.measures.table import measures_of
from analysis.parameters import Parameters
from analysis.pipeline.saved import REST
from analysis.pipeline.uncertainty import THRESHOLDS
from analysis.strict_json import plain

from ..errors import Rejected
from ..strict_json import json_bytes, read_json
from .record import NAME as RECORD
from .record import Record

NAME = "measures.json"
SCHEMA = "vq-dicom-node measures 1"


@dataclass(frozen=True)
class Measured:
    """Hold what a study of many results needs from one of them.

    Parameters
    ----------
    lungs : mapping of str to float
        Measures of both lungs; NaN for no value.
    verdicts : frozenset of str
        Of the quality checks: pass, warn, fail.
    settings : str
        Software and parameters, for comparing results with each other.
    """

    lungs: Mapping[str, float]
    verdicts: frozenset[str]
    settings: str


def write_measures(record: Record, folder: Path) -> Path:
    """Write ``measures.json`` of a result into a folder, and return its path.

    Raises
    ------
    OSError
        Where it cannot be written.
    """
    (folder / NAME).write_bytes(measures_bytes(record))
    return folder / NAME


def measures_bytes(record: Record) -> bytes:
    """Return the bytes of ``measures.json`` of a result."""
    analysis = record.analysis
    kinds = measures_of(analysis.parameters.ventilation)
    content = {
        "software": _software(analysis.version),
        "limits": RESEARCH_USE,
        "inspiration": record.inspiration,
        "expiration": record.expiration,
        "pairing": record.pairing,
        "parameters": analysis.parameters,
        "measures": {
            region: {name: {"value": value, "unit": kinds[name].unit} for name, value in values.items()}
            for region, values in analysis.measures.items()
        },
        "sensitivity": {"thresholds": THRESHOLDS, "percent": analysis.sensitivity},
        "quality": analysis.findings,
        "registration": analysis.registration,
    }
    return json_bytes(SCHEMA, content)


def read_measured(folder: Path) -> Measured:
    """Return the numbers of a result's folder, from its ``measures.json`` or else from its record.

    Raises
    ------
    Rejected
        Where the folder holds neither, or a file that this version cannot read.
    """
    try:
        found = _of_table(folder / NAME) if (folder / NAME).is_file() else _of_record(folder / RECORD)
        lungs = {name: math.nan if value is None else float(value) for name, value in found["lungs"].items()}
        verdicts = frozenset(str(finding["verdict"]) for finding in found["quality"])
        settings = _settings(found["software"], found["parameters"])
    except Rejected:
        raise
    except Exception as error:  # the boundary: numpy's reader of damaged bytes alone raises a dozen kinds
        raise Rejected(f"{folder} holds no measures of both lungs ({type(error).__name__})") from error
    return Measured(lungs, verdicts, settings)


def settings_of(parameters: Parameters, version: str) -> str:
    """Return the software of a version and parameters in the words of `Measured.settings`."""
    return _settings(_software(version), plain(parameters))


def _settings(software: str, parameters: Mapping[str, object]) -> str:
    return f"{software}: " + ", ".join(f"{name} {value}" for name, value in parameters.items())


def _of_table(path: Path) -> dict[str, Any]:
    found = read_json(path, SCHEMA)
    return {**found, "lungs": {name: one["value"] for name, one in found["measures"]["lungs"].items()}}


def _of_record(path: Path) -> dict[str, Any]:
    """Read only the part of a record that is not arrays."""
    with np.load(path, allow_pickle=False) as stored:
        found = json.loads(str(stored[REST]))["analysis"]
    software = _software(found["version"])
    return {**found, "lungs": found["measures"]["lungs"], "software": software, "quality": found["findings"]}


def _software(version: str) -> str:
    return f"vq-dicom-node {version}"
