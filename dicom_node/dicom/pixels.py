"""A Series and its files -> analysis.Volume in HU (the only reader of pixels)."""

from __future__ import annotations

import re
import threading
import zlib  # noqa: F401  before gdcm, whose own zlib takes parts of it over: writing a PDF then ends the process
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gdcm  # type: ignore[import-untyped,import-not-found,unused-ignore]
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import JPEGExtended12Bit

from analysis.errors import Rejected as AnalysisRejected
from analysis.volume import Grid, Volume

from ..errors import Rejected
from ..model import Series
from .attributes import named
from .decoding_limits import VOXELS, TooMuch, check_frames, check_inflated, codestreams
from .transfer_syntaxes import supply

AIR = -1024
#: Number of threads that read and decode.
WORKERS = 2
#: A Pixel Padding Value is believed only where it lies below or above the HU of any tissue.
TISSUE_HU = (-950, 3000)

TAGS = [
    "SOPInstanceUID", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
]  # fmt: skip


def load_volume(
    series: Series, paths: Mapping[str, Path], progress: Callable[[float], None] | None = None
) -> Volume:
    """Decode a stack to Hounsfield units.

    Parameters
    ----------
    series : Series
    paths : mapping of SOP Instance UID to Path
        The stored file of each instance; any transfer syntax pydicom has a decoder for.
    progress : callable of float, optional
        Called with the finished share, 0 to 1, from any thread but never from two at once.

    Returns
    -------
    Volume
        int16 HU, (k, j, i); slices ascend along row x column. Padding and everything below air is -1024.

    Raises
    ------
    Rejected
        Where a slice is missing, cannot be decoded, or does not say how its values become HU (PS3.3 C.11.1).
    """
    grid = check_volume(series)
    shape = (series.slices[0].rows, series.slices[0].columns)
    array = np.empty((len(series.slices), *shape), dtype=np.int16)
    wanted: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for k, s in enumerate(series.slices):
        wanted[s.sop_instance_uid].append((s.frame, k))
    done, lock = 0, threading.Lock()

    def load(item: tuple[str, list[tuple[int, int]]]) -> None:
        nonlocal done
        sop_instance_uid, frames = item
        for k, hu in _decode(sop_instance_uid, sorted(frames), paths, shape):
            array[k] = hu
            with lock:
                done += 1
                if progress is not None:
                    progress(done / len(series.slices))

    with ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(load, item) for item in wanted.items()]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    try:
        return Volume(array, grid)
    except AnalysisRejected as error:
        raise Rejected(f"series {series.series_instance_uid}: {error}") from error


def check_volume(series: Series) -> Grid:
    """Return the grid of a stack, before its pixels are read.

    Raises
    ------
    Rejected
        Where it has more than `VOXELS` voxels or its slices do not form a box.
    """
    first = series.slices[0]
    if (voxels := len(series.slices) * first.rows * first.columns) > VOXELS:
        raise Rejected(f"series {series.series_instance_uid} has {voxels} voxels, more than {VOXELS}")
    try:
        return grid_of(series)
    except AnalysisRejected as error:
        raise Rejected(f"series {series.series_instance_uid}: {error}") from error


def grid_of(series: Series) -> Grid:
    """Return the grid of a stack: k along row x column, j down a column, i along a row (PS3.3 C.7.6.2.1.1).

    Raises
    ------
    analysis.errors.Rejected
        Where the orientation is not a right-handed frame.
    """
    first = series.slices[0]
    row, column = np.reshape(first.orientation, (2, 3)).astype(np.float64)
    row /= np.linalg.norm(row)
    column -= row * (row @ column)
    column /= np.linalg.norm(column)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(row, column) * series.gap
    affine[:3, 1] = column * first.spacing[0]
    affine[:3, 2] = row * first.spacing[1]
    affine[:3, 3] = first.position
    return Grid((len(series.slices), first.rows, first.columns), affine)


def _decode(
    sop_instance_uid: str, frames: list[tuple[int, int]], paths: Mapping[str, Path], shape: tuple[int, int]
) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Yield (k, HU of the slice) for each (frame, k) of one instance."""
    if sop_instance_uid not in paths:
        raise Rejected(f"SOP instance {sop_instance_uid} is not in the archive")
    path = paths[sop_instance_uid]
    with _decoding(f"SOP instance {sop_instance_uid}"):
        check_inflated(path)
        ds = dcmread(path, specific_tags=list(TAGS), force=True)
        supply(ds)
        check_frames(ds, shape)
        indices = [frame - 1 for frame, _ in frames]
        for (frame, k), values in zip(frames, _frames(ds, indices), strict=True):
            yield k, to_hu(values, ds, frame)


def stored_values(path: Path) -> NDArray[Any]:
    """Return the unconverted stored values of all frames of a file, (frames, rows, columns).

    Raises
    ------
    Rejected
        Where the file cannot be decoded.
    OSError
        Where the disk fails.
    """
    with _decoding(path.name):
        check_inflated(path)
        ds = dcmread(path, specific_tags=list(TAGS), force=True)
        supply(ds)
        check_frames(ds, (ds.Rows, ds.Columns))
        return np.stack(list(_frames(ds, list(range(int(ds.get("NumberOfFrames") or 1))))))


@contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Turn any error that a file's bytes cause in a reader into `Rejected`; errors of the disk pass through."""
    try:
        yield
    except Rejected:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # pydicom raises OSErrors without a number for bytes that are not DICOM
        raise Rejected(f"{what} cannot be decoded: {_in_words(error)}") from error


def _in_words(error: Exception) -> str:
    """Return an error's cause without Python's terms; a missing attribute is given by its name and tag."""
    if isinstance(error, AttributeError | KeyError) and (
        found := re.search(r"'([A-Z]\w+)'$", str(error).strip('"'))
    ):
        return f"it has no {named(found[1])}"
    if isinstance(error, TooMuch):
        return str(error)
    text = str(error).splitlines()[0] if str(error) else ""
    return text if text and "object" not in text and "NoneType" not in text else "its pixel data is malformed"


def _frames(ds: Dataset, indices: list[int]) -> Iterator[NDArray[Any]]:
    if ds.file_meta.get("TransferSyntaxUID") == JPEGExtended12Bit and ds.BitsStored > 8:
        return _extended_12(ds, indices)
    return iter_pixels(ds, indices=indices, raw=True)  # type: ignore[no-any-return,unused-ignore]


def _extended_12(ds: Dataset, indices: list[int]) -> Iterator[NDArray[Any]]:
    """Yield frames of lossy 12-bit JPEG, which GDCM can decode although pydicom does not let it.

    GDCM is given the codestream, not the file: it allocates what a damaged file claims. (It first tries its 8-bit
    decoder, which says "Unsupported JPEG data precision 12" on stderr.)
    """
    streams = list(codestreams(ds))
    for i in indices:
        fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
        fragment.SetByteStringValue(streams[i])
        fragments.AddFragment(fragment)
        pixels, image = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010)), gdcm.Image()
        pixels.SetValue(fragments.__ref__())
        image.SetNumberOfDimensions(2)
        image.SetDimensions((ds.Columns, ds.Rows, 1))
        image.SetDataElement(pixels)
        grey = gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
        image.SetPhotometricInterpretation(grey)  # without one GDCM ends the process
        image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
        image.SetPixelFormat(
            gdcm.PixelFormat(1, ds.BitsAllocated, ds.BitsStored, ds.BitsStored - 1, ds.PixelRepresentation)
        )
        values = image.GetBuffer()  # bytes that SWIG turned into a str
        if values is None:
            raise ValueError("GDCM cannot read it")
        yield np.frombuffer(
            values.encode("utf-8", "surrogateescape"), "<i2" if ds.PixelRepresentation == 1 else "<u2"
        ).reshape(ds.Rows, ds.Columns)


def to_hu(stored: NDArray[Any], ds: Dataset, frame: int) -> NDArray[np.int16]:
    """Convert stored values (rows, columns) to HU by the Modality LUT (PS3.3 C.11.1); padding becomes air.

    Parameters
    ----------
    stored : (rows, columns) integer
    ds : Dataset
        The instance's attributes.
    frame : int
        Frame number from 1.

    Returns
    -------
    (rows, columns) int16
        -1024 to 32767.

    Raises
    ------
    Rejected
        Where Rescale Slope or Intercept is missing.
    """
    slope, intercept = _rescale(ds, frame)
    hu = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    np.clip(np.rint(hu, out=hu), AIR, 32767, out=hu)
    out: NDArray[np.int16] = hu.astype(np.int16)
    low, high = _padding(ds)
    if low is not None and high is not None and not TISSUE_HU[0] < slope * low + intercept < TISSUE_HU[1]:
        out[(stored >= low) & (stored <= high)] = AIR
    return out


def _rescale(ds: Dataset, frame: int) -> tuple[float, float]:
    candidates = list[Dataset]()
    for sequence, n in (
        ("PerFrameFunctionalGroupsSequence", frame - 1),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        items = ds.get(sequence) or []
        if len(items) > n:
            candidates += list(items[n].get("PixelValueTransformationSequence") or [])
    for item in (*candidates, ds):
        slope, intercept = item.get("RescaleSlope"), item.get("RescaleIntercept")
        if slope is not None and intercept is not None and float(slope) != 0:
            return float(slope), float(intercept)
    lacking = f"{named('RescaleSlope')} or {named('RescaleIntercept')}"
    raise Rejected(
        f"SOP instance {ds.get('SOPInstanceUID', '')} lacks its {lacking}, expected one number each"
    )


def _padding(ds: Dataset) -> tuple[int | None, int | None]:
    """Return the lowest and the highest stored value that is padding (PS3.3 C.7.5.1.1.2)."""
    values = [_signed(ds, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    given = [v for v in values if v is not None]
    return (min(given), max(given)) if values[0] is not None else (None, None)


def _signed(ds: Dataset, keyword: str) -> int | None:
    """Return a US-or-SS value, signed or not as the pixels are, because senders often give the wrong VR."""
    try:
        value = ds.get(keyword)
        value = value[0] if isinstance(value, MultiValue) else value
        if value is None or isinstance(value, (str, bytes)):
            return None
        bits = int(ds.BitsAllocated)
        unsigned = int(value) % (1 << bits)
        return unsigned - (1 << bits) if ds.PixelRepresentation == 1 and unsigned >> (bits - 1) else unsigned
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None
