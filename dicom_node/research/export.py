"""`dicom-node export`: a result -> NIfTI-1 images, and its measures as CSV and JSON, for researchers."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from analysis.anatomy.lungs import Lung
from analysis.limits_of_use import RESEARCH_USE
from analysis.measures.table import Measure, measures_of
from analysis.pipeline.pipeline import Analysis
from analysis.volume import Grid
from analysis.vq.classes import VQClass
from analysis.vq.ventilation import VENTILATIONS

from ..errors import Unavailable
from ..results.record import Record

#: NIfTI's world is RAS, ours is LPS: x and y change their signs.
RAS = np.array([-1.0, -1.0, 1.0], dtype=np.float32)


@dataclass(frozen=True)
class Image:
    """What an exported image is.

    Parameters
    ----------
    file : str
    unit : str
        UCUM; "" for labels.
    meaning : str
        At most 79 characters: it is the header's descrip, too.
    """

    file: str
    unit: str
    meaning: str


#: By their names in `Analysis.maps`, on the working grid; NaN outside the classified lung where the map has no value.
MAPS: Mapping[str, Image] = {
    "V": Image("V.nii.gz", "ml/ml", "Ventilation V"),
    "Q": Image("Q.nii.gz", "g/ml", "Perfusion surrogate Q = |local mean of mass change|"),
    "m": Image("m.nii.gz", "g/ml", "Signed local mean of apparent mass change m"),
    "V/Q": Image("VQ.nii.gz", "1", "Ratio of normalised V and Q"),
    "jacobian": Image("jacobian.nii.gz", "1", "Jacobian determinant, expiration to inspiration"),
    "ct_exp": Image("ct_exp.nii.gz", "[hnsf'U]", "Expiratory CT"),
    "ct_insp": Image("ct_insp_warped.nii.gz", "[hnsf'U]", "Inspiratory CT, warped to expiration"),
}
DISPLACEMENT = Image("displacement.nii.gz", "mm", "Displacement u, mm, RAS: inspiratory point = x + u(x)")
#: On the expiratory CT's own grid.
LABELS: Mapping[str, Image] = {
    "classes": Image("classes.nii.gz", "", ", ".join(f"{c} {c.name.lower()}" for c in VQClass)),
    "lungs": Image("lungs.nii.gz", "", ", ".join(f"{lung} {lung.name.lower()}" for lung in Lung)),
}


def images_of(analysis: Analysis) -> Mapping[str, Image]:
    """`MAPS`, V as it was made."""
    made = VENTILATIONS[analysis.parameters.ventilation]
    unit = MAPS["V"].unit if made.unit == "1" else made.unit
    return {**MAPS, "V": replace(MAPS["V"], unit=unit, meaning=f"Ventilation V = {made.formula}")}


def export(record: Record, out: Path) -> tuple[Path, ...]:
    """Write a result as NIfTI-1, CSV and JSON; no attribute of the patient is among it.

    Parameters
    ----------
    record : Record
    out : Path
        Folder; made where it does not exist.

    Raises
    ------
    Unavailable
        Where it cannot be written.
    """
    analysis = record.analysis
    maps, kinds = images_of(analysis), measures_of(analysis.parameters.ventilation)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, image in maps.items():
            write_nifti(out, image, analysis.maps[name], analysis.grid)
        write_nifti(out, DISPLACEMENT, analysis.displacement * RAS, analysis.grid)
        for name, image in LABELS.items():
            write_nifti(out, image, getattr(analysis, name), analysis.expiratory)
        _write_csv(out / "measures.csv", analysis.measures, kinds)
        text = json.dumps(_description(record), indent=1)
        (out / "measures.json").write_text(text + "\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:  # the latter is how SimpleITK says it
        raise Unavailable(f"{out} cannot be written ({type(error).__name__})") from error
    images = (*maps.values(), DISPLACEMENT, *LABELS.values())
    return tuple(out / name for name in (*(i.file for i in images), "measures.csv", "measures.json"))


def write_nifti(out: Path, image: Image, array: NDArray[Any], grid: Grid) -> None:
    """Write an array (k, j, i), or vectors (k, j, i, 3), as NIfTI-1: qform and sform from the grid, RAS, mm."""
    made = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    made.SetSpacing(grid.spacing[::-1])
    made.SetOrigin(grid.affine[:3, 3].tolist())
    made.SetDirection(grid.directions[:, ::-1].ravel().tolist())
    made.SetMetaData("ITK_FileNotes", image.meaning)
    sitk.WriteImage(made, str(out / image.file), useCompression=True)


def _write_csv(path: Path, measures: Mapping[str, Mapping[str, float]], kinds: Mapping[str, Measure]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("region", "measure", "value", "unit", "meaning"))
        for region, values in measures.items():
            for name, measure in kinds.items():
                value = values[name]
                writer.writerow(
                    (region, name, "" if np.isnan(value) else value, measure.unit, measure.meaning)
                )


def _description(record: Record) -> dict[str, Any]:
    analysis = record.analysis
    images = (*images_of(analysis).values(), DISPLACEMENT, *LABELS.values())
    kinds = measures_of(analysis.parameters.ventilation)
    return {
        "software": f"vq-dicom-node {analysis.version}",
        "limits": RESEARCH_USE,
        "inspiration": record.inspiration,
        "expiration": record.expiration,
        "parameters": asdict(analysis.parameters),
        "measures": {
            region: {
                name: {"value": None if np.isnan(value) else value, "unit": kinds[name].unit}
                for name, value in values.items()
            }
            for region, values in analysis.measures.items()
        },
        "quality": [asdict(finding) for finding in analysis.findings],
        "registration": asdict(analysis.registration),
        "images": {image.file: {"unit": image.unit, "meaning": image.meaning} for image in images},
        "world": "RAS, mm; the affine is the expiratory CT's; NaN: no value",
    }
