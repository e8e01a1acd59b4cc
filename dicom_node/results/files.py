"""Objects, record and tables -> the files of a result's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmwrite

from analysis.figures.overview import overview
from analysis.limits_of_use import RESEARCH_USE
from analysis.pipeline.pipeline import Analysis
from analysis.pipeline.uncertainty import THRESHOLDS

from ..model import Pair
from .context import Case
from .record import Record


def record_of(analysis: Analysis, case: Case) -> Record:
    """What is kept of a result besides its DICOM objects."""
    insp, exp = case.pair.inspiratory, case.pair.expiratory
    return Record(analysis, case.patient, insp.series_instance_uid, exp.series_instance_uid, case.acquired)


def picture(analysis: Analysis) -> bytes:
    """The overview as a PNG file."""
    buffer = BytesIO()
    overview(analysis).savefig(buffer, format="png")
    return buffer.getvalue()


def write(
    analysis: Analysis, found: Pair, objects: Iterable[tuple[str, Dataset]], out: Path
) -> tuple[Path, ...]:
    """Name each kind's only object after it; series go into a folder of their own."""
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for kind, ds in objects:
        if kind in ("captures", "maps"):
            (out / kind).mkdir(exist_ok=True)
            files.append(out / kind / f"{ds.SeriesNumber}-{int(ds.InstanceNumber):04d}.dcm")
        else:
            files.append(out / f"{kind}.dcm")
        dcmwrite(files[-1], ds, enforce_file_format=True)
    files.append(out / "overview.png")
    files[-1].write_bytes(picture(analysis))
    files.append(out / "measures.json")
    files[-1].write_text(json.dumps(_table(analysis, found), indent=1, allow_nan=True) + "\n")
    return tuple(files)


def _table(analysis: Analysis, found: Pair) -> dict[str, object]:
    return {
        "software": f"vq-dicom-node {analysis.version}",
        "limits": RESEARCH_USE,
        "inspiration": found.inspiratory.series_instance_uid,
        "expiration": found.expiratory.series_instance_uid,
        "pairing": found.reason,
        "parameters": asdict(analysis.parameters),
        "measures": analysis.measures,
        "sensitivity": {"thresholds": THRESHOLDS, "percent": analysis.sensitivity},
        "quality": [asdict(finding) for finding in analysis.findings],
    }
