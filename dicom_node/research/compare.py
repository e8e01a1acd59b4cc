"""`dicom-node compare`: two kept results of one patient -> tables, maps and a picture of what changed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread

from analysis.followup.figures import page
from analysis.followup.longitudinal import Change, compare
from analysis.measures.table import MEASURES
from analysis.vq.classes import VQClass

from ..dicom.image_files import write_nifti
from ..dicom.malformed import MALFORMED
from ..dicom.persons import person_of
from ..errors import Rejected, Unavailable
from ..model import Person
from ..pairing.people import two_people
from ..results.maps import MapKind
from ..results.record import Record, read_record
from ..strict_json import write_json
from .export import RAS, described

#: By their names in `Change.maps`.
MAPS: Mapping[str, MapKind] = {
    "V": MapKind("dV.nii.gz", "ml/ml", "Change of V, later minus earlier"),
    "Q": MapKind("dQ.nii.gz", "g/ml", "Change of Q, later minus earlier"),
    "V_n": MapKind("dV_normalised.nii.gz", "1", "Change of normalised V, later minus earlier"),
    "Q_n": MapKind("dQ_normalised.nii.gz", "1", "Change of normalised Q, later minus earlier"),
}
LABELS: Mapping[str, MapKind] = {
    "earlier": MapKind("classes_earlier.nii.gz", "", "Classes, earlier, carried to the later CT"),
    "later": MapKind("classes_later.nii.gz", "", "Classes, later"),
}
DISPLACEMENT = MapKind("displacement.nii.gz", "mm", "Displacement u, mm, RAS: earlier point = x + u(x)")
SCHEMA = "vq-dicom-node comparison 1"
#: What of a DICOM object says whose it is.
PERSON = ("SpecificCharacterSet", "PatientID", "IssuerOfPatientID", "PatientBirthDate")
CLASSES = tuple(c.name.lower() for c in VQClass if c)


@dataclass(frozen=True, eq=False)
class Kept:
    """A kept result and the patient whom the DICOM objects beside it name."""

    record: Record
    person: Person


def read_kept(path: Path) -> Kept:
    """Read a record, and whose result it is from the DICOM objects beside it.

    The record itself names nobody. The name does not count, since people change theirs between two visits.

    Parameters
    ----------
    path : Path
        Path of the record.

    Raises
    ------
    Rejected
        Where the record or the objects are missing or cannot be read.
    """
    record = read_record(path)
    for file in sorted(path.parent.glob("*.dcm")):
        try:
            ds = dcmread(file, stop_before_pixels=True, specific_tags=list(PERSON))
        except (OSError, *MALFORMED):
            continue
        return Kept(record, replace(person_of(ds), name=""))
    raise Rejected(f"{path.parent} holds no DICOM object that says whose result it is")


def compare_results(
    earlier: Kept, later: Kept, out: Path, progress: Callable[[str, float], None]
) -> tuple[Change, tuple[Path, ...]]:
    """Write what changed between two results.

    Parameters
    ----------
    earlier, later : Kept
    out : Path
        Folder; made where it does not exist.
    progress : callable

    Raises
    ------
    Rejected
        Where the results are of two patients, of the same images, or in the wrong order.
    Unavailable
        Where the folder cannot be written.
    """
    if difference := two_people(earlier.person, later.person):
        raise Rejected(f"the two results are not of the same patient: {difference}")
    then, now = earlier.record, later.record
    if (then.inspiration, then.expiration) == (now.inspiration, now.expiration):
        raise Rejected("both results are of the same images: there is no change to compare")
    if then.acquired > now.acquired:
        raise Rejected(
            f"the earlier result was acquired {day(then)}, the later one {day(now)}: exchange them"
        )
    change = compare(then.analysis, now.analysis, lambda share: progress("registration", share))
    try:
        out.mkdir(parents=True, exist_ok=True)
        files = _write(change, then, now, out)
    except (OSError, RuntimeError) as error:  # SimpleITK raises the latter
        raise Unavailable(f"{out} cannot be written ({type(error).__name__})") from error
    return change, files


def day(record: Record) -> str:
    """Return the day on which expiration was acquired, for people to read.

    Examples
    --------
    >>> day(Record(None, "", "", "20260314101530"))
    '2026-03-14'
    """
    digits = record.acquired[:8]
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if len(digits) == 8 else "at an unknown date"


def _write(change: Change, earlier: Record, later: Record, out: Path) -> tuple[Path, ...]:
    for name, image in MAPS.items():
        write_nifti(out / image.file, change.maps[name], change.grid, image.meaning)
    for name, image in LABELS.items():
        write_nifti(out / image.file, getattr(change, name), change.grid, image.meaning)
    write_nifti(out / DISPLACEMENT.file, change.displacement * RAS, change.grid, DISPLACEMENT.meaning)
    _write_measures(change, out / "changes.csv")
    _write_transitions(change, out / "transitions.csv")
    write_json(out / "comparison.json", SCHEMA, _description(change, earlier, later))
    page(change, f"Change from {day(earlier)} to {day(later)}").savefig(out / "change.png")
    images = (*MAPS.values(), *LABELS.values(), DISPLACEMENT)
    named = ("changes.csv", "transitions.csv", "comparison.json", "change.png")
    return tuple(out / name for name in (*(image.file for image in images), *named))


def _write_measures(change: Change, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("region", "measure", "earlier", "later", "change", "unit", "meaning"))
        for region, values in change.measures.items():
            for name, (then, now) in values.items():
                numbers = ("" if np.isnan(v) else v for v in (then, now, now - then))
                writer.writerow((region, name, *numbers, MEASURES[name].unit, MEASURES[name].meaning))


def _write_transitions(change: Change, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("earlier", "later", "ml", "percent"))
        total = max(change.transitions.sum(), change.grid.voxel_ml)
        for a, row in zip(CLASSES, change.transitions, strict=True):
            for b, ml in zip(CLASSES, row, strict=True):
                writer.writerow((a, b, f"{ml:.3f}", f"{100 * ml / total:.3f}"))


def _description(change: Change, earlier: Record, later: Record) -> dict[str, Any]:
    images = {image.file: image for image in (*MAPS.values(), *LABELS.values(), DISPLACEMENT)}
    return {
        **described(images, "RAS, mm, on the later result's working grid; NaN: no value on one of the dates"),
        **{
            which: {
                "acquired": day(record),
                "software": f"vq-dicom-node {record.analysis.version}",
                "inspiration": record.inspiration,
                "expiration": record.expiration,
            }
            for which, record in (("earlier", earlier), ("later", later))
        },
        "parameters": later.analysis.parameters,
        "quality": change.findings,
        "registration": change.registration,
    }
