"""`dicom-node export`: a result -> NIfTI-1 images, and its measures as CSV and JSON, for researchers."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analysis.anatomy.sides import Lung
from analysis.limits_of_use import RESEARCH_USE
from analysis.measures.table import Measure, measures_of
from analysis.vq.classes import VQClass

from ..dicom.image_files import write_nifti
from ..errors import Unavailable
from ..results.maps import MapKind, maps_of
from ..results.measures_file import write_measures
from ..results.record import Record
from ..strict_json import write_json

#: NIfTI's world is RAS, ours is LPS: x and y change their signs.
RAS = np.array([-1.0, -1.0, 1.0], dtype=np.float32)
SCHEMA = "vq-dicom-node images 1"
WORLD = "RAS, mm; the affine is the expiratory CT's; NaN: no value"


DISPLACEMENT = MapKind("displacement.nii.gz", "mm", "Displacement u, mm, RAS: inspiratory point = x + u(x)")
#: On the expiratory CT's own grid.
LABELS: Mapping[str, MapKind] = {
    "classes": MapKind("classes.nii.gz", "", ", ".join(f"{c} {c.name.lower()}" for c in VQClass)),
    "lungs": MapKind("lungs.nii.gz", "", ", ".join(f"{lung} {lung.name.lower()}" for lung in Lung)),
}


def export(record: Record, out: Path) -> tuple[Path, ...]:
    """Write a result as NIfTI-1, CSV and JSON, without any attribute of the patient.

    Parameters
    ----------
    record : Record
    out : Path
        Folder; made where it does not exist.

    Raises
    ------
    Unavailable
        Where the folder cannot be written.
    """
    analysis = record.analysis
    maps = {name: kind for name, kind in maps_of(analysis).items() if name in analysis.maps}
    images = {image.file: image for image in (*maps.values(), DISPLACEMENT, *LABELS.values())}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, image in maps.items():
            write_nifti(out / image.file, analysis.maps[name], analysis.grid, image.meaning)
        write_nifti(out / DISPLACEMENT.file, analysis.displacement * RAS, analysis.grid, DISPLACEMENT.meaning)
        for name, image in LABELS.items():
            write_nifti(out / image.file, getattr(analysis, name), analysis.expiratory, image.meaning)
        _write_csv(out / "measures.csv", analysis.measures, measures_of(analysis.parameters.ventilation))
        measures = write_measures(record, out)
        write_json(out / "images.json", SCHEMA, described(images, WORLD))
    except (OSError, RuntimeError) as error:  # SimpleITK raises the latter
        raise Unavailable(f"{out} cannot be written ({type(error).__name__})") from error
    return *(out / name for name in (*images, "measures.csv", "images.json")), measures


def described(images: Mapping[str, MapKind], world: str) -> dict[str, object]:
    """Return what a folder's images are, for its JSON file."""
    return {
        "limits": RESEARCH_USE,
        "images": {name: {"unit": image.unit, "meaning": image.meaning} for name, image in images.items()},
        "world": world,
    }


def _write_csv(path: Path, measures: Mapping[str, Mapping[str, float]], kinds: Mapping[str, Measure]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("region", "measure", "value", "unit", "meaning"))
        for region, values in measures.items():
            for name, measure in kinds.items():
                value = values.get(name, math.nan)  # a result of an older version
                writer.writerow(
                    (region, name, "" if np.isnan(value) else value, measure.unit, measure.meaning)
                )
