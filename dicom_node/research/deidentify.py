"""`dicom-node deidentify`: the images and results of a job -> the same without identity, for research elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from pydicom import dcmread, dcmwrite

from ..dicom.deidentification import Profile, Pseudonyms, without_identity
from ..dicom.pixels import load_volume, stored_values
from ..errors import Rejected, Unavailable
from ..model import Pair, Series
from ..pairing.analyse import Progress
from ..pairing.pairing import fingerprint
from ..results.context import read_case
from ..results.files import record_of, write
from ..results.kinds import DEFAULT_OBJECTS, build_objects
from ..results.record import Record


def deidentify(
    record: Record, pair: Pair, paths: Mapping[str, Path], out: Path, profile: Profile, progress: Progress
) -> tuple[Path, ...]:
    """Write the images of a result without identity, and the result made again from them.

    Because it is made again, the result cannot carry what the images no longer do: PDF, captures and report name the
    pseudonym, and every reference leads to the new UIDs.

    Parameters
    ----------
    record : Record
        Of the result.
    pair : Pair
        Its images.
    paths : mapping of SOP Instance UID to Path
    out : Path
        New or empty folder: ``images/inspiration``, ``images/expiration`` and ``results``.
    profile : Profile
    progress : callable

    Returns
    -------
    tuple of Path
        The three folders.

    Raises
    ------
    Rejected
        Where images are gone or cannot be de-identified, or the folder is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise Rejected(f"{out} is not empty")
    try:
        renamed, files = _images(_ordered(pair, record), paths, out / "images", profile, progress)
        _results(renamed, files, record, out / "results", progress)
    except OSError as error:
        raise Unavailable(f"{out} cannot be written: {error.strerror}") from error
    return out / "images" / "inspiration", out / "images" / "expiration", out / "results"


def _ordered(pair: Pair, record: Record) -> Pair:
    """Return the pair as its lung volumes ordered it, which the record says."""
    if record.expiration == pair.expiratory.series_instance_uid:
        return pair
    return replace(pair, inspiratory=pair.expiratory, expiratory=pair.inspiratory)


def _images(
    pair: Pair, paths: Mapping[str, Path], out: Path, profile: Profile, progress: Progress
) -> tuple[Pair, dict[str, Path]]:
    files: dict[str, Path] = {}
    series = {"inspiration": pair.inspiratory, "expiration": pair.expiratory}
    shared = pair.inspiratory.series_instance_uid == pair.expiratory.series_instance_uid
    total = sum(len(s.sop_instance_uids) for s in series.values())
    for phase, stack in series.items():
        (out / phase).mkdir(parents=True)
        description = "" if shared else phase.capitalize()
        for n, uid in enumerate(stack.sop_instance_uids, 1):
            if uid not in paths:
                raise Rejected(f"SOP instance {uid} is not in the archive")
            target = out / phase / f"{n:04d}.dcm"
            new = profile.names.uid(uid)
            if new not in files:
                _image(paths[uid], target, profile, description)
                files[new] = target
            progress("images", len(files) / total)
    renamed = [_renamed(stack, profile.names, phase.capitalize()) for phase, stack in series.items()]
    reason = "decided on the images before they were de-identified"
    return Pair(renamed[0], renamed[1], pair.decided, reason), files


def _image(source: Path, target: Path, profile: Profile, description: str) -> None:
    """Write an image without identity, decoded: a compressed stream may hold more than its pixels."""
    ds = without_identity(dcmread(source, stop_before_pixels=True, force=True), profile, description)
    values = stored_values(source)
    ds.BitsAllocated = 8 * values.itemsize
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if values.itemsize > 1 else "OB"
    dcmwrite(target, ds, enforce_file_format=True)


def _renamed(series: Series, names: Pseudonyms, description: str) -> Series:
    return replace(
        series,
        series_instance_uid=names.uid(series.series_instance_uid),
        study_instance_uid=names.uid(series.study_instance_uid),
        slices=tuple(replace(s, sop_instance_uid=names.uid(s.sop_instance_uid)) for s in series.slices),
        evidence="",
        description=description,
        contrast="",
        acquired="",
    )


def _results(pair: Pair, files: Mapping[str, Path], record: Record, out: Path, progress: Progress) -> None:
    analysis = record.analysis
    mark = fingerprint(pair, analysis.parameters, version("vq-dicom-node"))
    case = read_case(pair, files, datetime(1970, 1, 1), mark)
    created = datetime.strptime(str(case.expiratory[0].StudyDate or "19700101"), "%Y%m%d")
    case = replace(case, created=created)
    progress("objects", 0.0)
    kinds = (*DEFAULT_OBJECTS, "maps")
    objects = build_objects(analysis, case, lambda: load_volume(pair.expiratory, files), kinds)
    write(record_of(analysis, case), objects, out)
    progress("objects", 1.0)
