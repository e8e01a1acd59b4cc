"""Every encoding a scanner or a PACS uses gives the same HU, at the same place in the patient."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoders import encoded
from made import ORIGIN, SHAPE, by_uid, enhanced, headers_of, one_series, thorax
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

from analysis.volume import Grid, Volume
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.dicom.headers import read_header
from dicom_node.dicom.pixels import load_volume
from dicom_node.errors import Rejected

TRUTH = thorax()
#: Few and thick slices, for the encoders that are started once a file.
FEW = thorax(shape=(20, 40, 48), spacing=(6.0, 4.0, 3.75))


def written(folder: Path, change: Callable[[Any], None] | None = None, volume: Volume = TRUTH) -> list[Path]:
    paths = write_ct_series(volume, folder, Scan("Exp", "s"))
    for path in paths if change else ():
        ds = dcmread(path)
        change(ds)  # type: ignore[misc]
        ds.save_as(path)
    return paths


def loaded(paths: list[Path]) -> Volume:
    return load_volume(one_series(paths), by_uid(paths))


def assert_same(grid: Grid, other: Grid) -> None:
    """One shape, and within 0.01 mm of each other."""
    assert grid.shape == other.shape
    np.testing.assert_allclose(grid.affine, other.affine, atol=0.01)


def unsigned(ds: Any) -> None:
    """As most scanners store it: 12 bits, unsigned, Rescale Intercept -1024."""
    stored = (np.frombuffer(ds.PixelData, "<i2") + 1024).astype("<u2")
    ds.PixelData = stored.tobytes()
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.RescaleIntercept = 12, 11, 0, "-1024"


def signed_12(ds: Any) -> None:
    stored = np.frombuffer(ds.PixelData, "<i2")
    ds.PixelData = stored.clip(-1024, 2047).astype("<i2").tobytes()
    ds.BitsStored, ds.HighBit = 12, 11


STORED: dict[str, Callable[[Any], None] | None] = {
    "signed 16": None,
    "signed 12": signed_12,
    "unsigned 12": unsigned,
}

DCMTK = {
    "implicit": ["dcmconv", "+ti"],
    "big endian": ["dcmconv", "+tb"],
    "deflated": ["dcmconv", "+td"],
    "RLE": ["dcmcrle"],
    "JPEG lossless SV1": ["dcmcjpeg", "+e1"],
    "JPEG lossless": ["dcmcjpeg", "+el"],
    "JPEG-LS": ["dcmcjpls"],
}


@pytest.mark.parametrize("stored", STORED)
def test_every_representation_gives_the_same_hu(tmp_path: Path, stored: str) -> None:
    volume = loaded(written(tmp_path, STORED[stored]))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, TRUTH.array)
    assert_same(volume.grid, TRUTH.grid)


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda s: UID(s).name)
def test_what_pydicom_encodes_is_decoded(tmp_path: Path, stored: str, syntax: UID) -> None:
    paths = written(tmp_path, STORED[stored], FEW)
    for path in paths:
        ds = dcmread(path)
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(path)
    np.testing.assert_array_equal(loaded(paths).array, FEW.array)


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("syntax", DCMTK)
def test_what_dcmtk_encodes_is_decoded(tmp_path: Path, stored: str, syntax: str) -> None:
    paths = [encoded(DCMTK[syntax], p) for p in written(tmp_path, STORED[stored], FEW)]
    np.testing.assert_array_equal(loaded(paths).array, FEW.array)


def test_12_bit_lossy_jpeg_is_decoded(tmp_path: Path) -> None:
    paths = [encoded(["dcmcjpeg", "+ee", "+q", "98"], p) for p in written(tmp_path, unsigned, FEW)]
    assert dcmread(paths[0]).file_meta.TransferSyntaxUID.name.startswith("JPEG Extended")
    error = loaded(paths).array.astype(int) - FEW.array
    assert abs(error.mean()) < 3
    assert np.abs(error).mean() < 25


@pytest.mark.parametrize(
    ("name", "mean"), [("popi-00-philips", -667.673), ("normal001-siemens-jpegll", -370.400)]
)
def test_real_series_are_decoded(shared: Path, tmp_path: Path, name: str, mean: float) -> None:
    zipfile.ZipFile(shared / "real-ct" / f"{name}.zip").extractall(tmp_path)
    volume = loaded([p for p in tmp_path.rglob("*") if p.is_file()])
    assert volume.array.mean() == pytest.approx(mean, abs=0.01)
    # Air lies around the patient, and the table below: the array is neither mirrored nor upside down.
    middle = volume.array[volume.array.shape[0] // 2]
    assert middle[0, 0] <= -950
    assert volume.grid.directions[2, 0] == pytest.approx(1)


def test_an_enhanced_ct_is_decoded_by_its_positions(tmp_path: Path) -> None:
    path = enhanced(tmp_path)
    volume = loaded([path])
    np.testing.assert_array_equal(volume.array, TRUTH.array)
    ds = dcmread(path)
    ds.PerFrameFunctionalGroupsSequence = list(reversed(ds.PerFrameFunctionalGroupsSequence))
    ds.save_as(path)
    np.testing.assert_array_equal(loaded([path]).array, TRUTH.array[::-1])


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ((1, 0, 0), (0, 1, 0)),
        ((-1, 0, 0), (0, -1, 0)),
        ((-1, 0, 0), (0, 1, 0)),
        ((0, 1, 0), (0, 0, -1)),
        ((1, 0, 0), (0, 0.96, 0.28)),
    ],
    ids=["supine", "prone", "feet first", "sagittal", "oblique"],
)
def test_every_voxel_is_where_it_was(tmp_path: Path, row: Any, column: Any) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack(
        [np.cross(row, column) * 2.5, np.multiply(column, 4.0), np.multiply(row, 3.75)]
    )
    affine[:3, 3] = ORIGIN
    truth = Volume(TRUTH.array, Grid(SHAPE, affine))
    volume = loaded(written(tmp_path, volume=truth))
    assert_same(volume.grid, truth.grid)
    np.testing.assert_array_equal(volume.array, truth.array)


def test_a_slope_of_each_slice_is_its_own(tmp_path: Path) -> None:
    def change(ds: Any) -> None:
        slope = 1 + int(ds.InstanceNumber) % 3
        stored = np.frombuffer(ds.PixelData, "<i2").astype(int) - ds.InstanceNumber
        ds.PixelData = (stored // slope).astype("<i2").tobytes()
        ds.RescaleSlope, ds.RescaleIntercept = slope, ds.InstanceNumber

    error = TRUTH.array.astype(int) - loaded(written(tmp_path, change)).array
    assert error.min() >= 0
    assert error.max() <= 2
    assert (error[2::3] == 0).all()


@pytest.mark.parametrize(("padding", "becomes"), [(-2000, -1024), (3100, -1024), (40, 40)])
def test_padding_is_air_where_it_means_no_tissue(tmp_path: Path, padding: int, becomes: int) -> None:
    def change(ds: Any) -> None:
        stored = np.frombuffer(ds.PixelData, "<i2").copy()
        stored[:5] = padding
        ds.PixelData = stored.tobytes()
        ds.add_new("PixelPaddingValue", "US", padding % 65536)

    assert np.unique(loaded(written(tmp_path, change)).array[:, 0, :5]).tolist() == [becomes]


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_missing_rescale_is_known_from_the_header(tmp_path: Path, keyword: str) -> None:
    (path, *_) = written(tmp_path, lambda ds: ds.pop(keyword))
    name = {"RescaleSlope": "Rescale Slope (0028,1053)", "RescaleIntercept": "Rescale Intercept (0028,1052)"}
    header = read_header(path)
    said = f"no usable {name[keyword]} (absent, expected a number) in SOP instance {header.sop_instance_uid}"
    assert header.ignored == said


def test_frames_without_rescale_are_known_from_the_header(tmp_path: Path) -> None:
    path = enhanced(tmp_path)
    ds = dcmread(path)
    del ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    ds.save_as(path)
    assert read_header(path).ignored.startswith(
        "no usable Rescale Slope (0028,1053) (absent, expected a number)"
    )


def test_a_frames_own_rescale_counts_before_the_roots(tmp_path: Path) -> None:
    path = enhanced(tmp_path)
    plain = loaded([path]).array
    ds = dcmread(path)
    ds.RescaleSlope, ds.RescaleIntercept = "2", "100"
    ds.save_as(path)
    np.testing.assert_array_equal(loaded([path]).array, plain)


@pytest.mark.parametrize("how", ["implicit", "explicit", "big endian", "no syntax"])
def test_a_file_without_a_transfer_syntax_is_read_as_its_bytes_are(tmp_path: Path, how: str) -> None:
    paths = written(tmp_path)
    whole = loaded(paths)
    for path in paths:
        ds = dcmread(path)
        if how == "no syntax":
            data, start = path.read_bytes(), path.read_bytes().find(b"\x02\x00\x10\x00UI")
            end = start + 8 + int.from_bytes(data[start + 6 : start + 8], "little")
            length = (int.from_bytes(data[140:144], "little") - (end - start)).to_bytes(4, "little")
            path.write_bytes(data[:140] + length + data[144:start] + data[end:])
            continue
        bare = Dataset()
        bare.update({e.tag: e for e in ds if e.tag.group != 2})
        if how == "big endian":
            bare.PixelData = ds.pixel_array.astype(">i2").tobytes()
        bare.save_as(path, implicit_vr=how == "implicit", little_endian=how != "big endian")
    np.testing.assert_array_equal(loaded(paths).array, whole.array)


def test_compressed_pixels_without_a_transfer_syntax_are_refused_with_the_header(tmp_path: Path) -> None:
    (path, *_) = written(tmp_path)
    ds = dcmread(path)
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    bare = Dataset()
    bare.update({e.tag: e for e in ds if e.tag.group != 2})
    bare["PixelData"].is_undefined_length = True
    bare.save_as(path, implicit_vr=False, little_endian=True)
    with pytest.raises(Rejected, match=r"without Transfer Syntax UID \(0002,0010\) nothing says how"):
        read_header(path)


def test_a_syntax_nothing_decodes_is_refused_with_the_header(tmp_path: Path) -> None:
    (path, *_) = written(tmp_path)
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.113619.5.2")
    dcmwrite(path, ds, implicit_vr=False, little_endian=True, enforce_file_format=False)
    with pytest.raises(Rejected, match=r"nothing here decodes its Transfer Syntax UID \(0002,0010\) 1\.2"):
        read_header(path)


def test_a_broken_slice_is_named(tmp_path: Path) -> None:
    paths = written(tmp_path)
    ds = dcmread(paths[20])
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    ds.save_as(paths[20])
    paths[20].write_bytes(paths[20].read_bytes()[:-300])
    series = one_series(paths)
    with pytest.raises(Rejected, match=f"SOP instance {ds.SOPInstanceUID} cannot be decoded"):
        load_volume(series, by_uid(paths))


def test_pixels_truncated_after_the_header_was_read_are_named(tmp_path: Path) -> None:
    paths = written(tmp_path)
    uid, series = headers_of(paths)[5].sop_instance_uid, one_series(paths)
    paths[5].write_bytes(paths[5].read_bytes()[:-300])
    with pytest.raises(Rejected, match=f"SOP instance {uid}"):
        load_volume(series, {h.sop_instance_uid: p for h, p in zip(headers_of(paths), paths, strict=True)})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    paths = written(tmp_path)
    files = by_uid(paths)
    gone = headers_of(paths)[7].sop_instance_uid
    series = one_series(paths)
    del files[gone]
    with pytest.raises(Rejected, match=f"{gone} is not in the archive"):
        load_volume(series, files)


def test_progress_runs_to_one(tmp_path: Path) -> None:
    paths = written(tmp_path)
    seen: list[float] = []
    load_volume(one_series(paths), by_uid(paths), seen.append)
    assert len(seen) == SHAPE[0]
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_zlib_is_loaded_before_gdcm_which_would_corrupt_it() -> None:
    script = "import dicom_node.dicom.pixels, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert loaded.index("zlib") < loaded.index("gdcm")
