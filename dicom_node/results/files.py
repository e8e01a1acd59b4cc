"""Objects, record and tables -> the files of a result's folder."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian

from analysis.figures.overview import overview
from analysis.parameters import PictureStyle
from analysis.pipeline.pipeline import Analysis

from .context import Case
from .kinds import KINDS
from .measures_file import write_measures
from .record import NAME, Record

#: Kinds of several objects, which become a folder.
SEVERAL = frozenset(kind.name for kind in KINDS if len(kind.series) > 1)


def record_of(analysis: Analysis, case: Case) -> Record:
    """Return what is kept of a result besides its DICOM objects."""
    insp, exp = case.pair.inspiratory, case.pair.expiratory
    uids = insp.series_instance_uid, exp.series_instance_uid
    return Record(analysis, *uids, case.acquired, case.pair.reason)


def picture(analysis: Analysis, style: PictureStyle | None = None) -> bytes:
    """Return the overview as a PNG file."""
    buffer = BytesIO()
    overview(analysis, style).savefig(buffer, format="png")
    return buffer.getvalue()


def write(
    record: Record, objects: Iterable[tuple[str, Dataset]], out: Path, style: PictureStyle | None = None
) -> tuple[Path, ...]:
    """Write a result into a folder: a kind's only object as a file of its name, a series as a folder.

    Parameters
    ----------
    record : Record
        Kept beside the objects, with its picture and ``measures.json``.
    objects : iterable of (kind, Dataset)
    out : Path
        Folder; made where it does not exist.
    style : PictureStyle, optional
        Of the picture.

    Returns
    -------
    tuple of Path
        The files, in the order of writing.
    """
    out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as beside:
        packed = beside.submit(record.dump)  # zlib lets the objects be made meanwhile
        files = [_write_object(kind, ds, out) for kind, ds in objects]
        (out / "overview.png").write_bytes(picture(record.analysis, style))
        measures = write_measures(record, out)
        (out / NAME).write_bytes(packed.result())
    return (*files, out / "overview.png", measures, out / NAME)


def _write_object(kind: str, ds: Dataset, out: Path) -> Path:
    path = out / f"{kind}.dcm"
    if kind in SEVERAL:
        (out / kind).mkdir(exist_ok=True)
        path = out / kind / f"{ds.SeriesNumber}-{int(ds.InstanceNumber):04d}.dcm"
    if kind == "maps":  # most of a map is "no value"
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dcmwrite(path, ds, enforce_file_format=True)
    return path
