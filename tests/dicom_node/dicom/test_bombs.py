"""Small files that ask for much are refused in a sentence, before memory, stack or time is gone."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from encoders import encoded
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

from dicom_node.dicom import decoding_limits as limits
from dicom_node.dicom.decoding_limits import Claim, TooMuch, check_frames, scan_claim, wavelet_claim
from dicom_node.dicom.headers import read_header
from dicom_node.dicom.pixels import load_volume
from dicom_node.errors import Rejected
from dicom_node.intake.header_reader import Reader
from dicom_node.model import Header, Series

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from bombs import BOMBS, file_of, slice_of

#: What is said of each by who reads the header, or else the pixels; "" where its header is one.
SAID = {
    "1 GB, deflated": "inflates to more than 512 MB",
    "an attribute of 4 GB": "",
    "200,000 sequences deep": "cannot be read: RecursionError",
    "6,000,000 frames' items": "the file hangs its reader",
    "2,000,000 attributes": "",
    "65535 x 65535, absent": "(512 bytes to the end of the file, expected 8589672450)",
    "2,000,000,000 frames, absent": "cannot be decoded: The number of bytes of pixel data is less",
    "65535 x 65535, RLE": "has 8589672450 voxels, more than 1073741824",
    "65500 x 65500, JPEG Lossless": "its compressed pixels are 65500 x 65500 x 1 of 16 bits, not 16 x 16 x 1",
    "65500 x 65500, JPEG-LS": "its compressed pixels are 65500 x 65500 x 1 of 16 bits, not 16 x 16 x 1",
    "2,000,000,000 x 2,000,000,000, JPEG 2000": "its compressed pixels are 2000000000 x 2000000000 x 1 of 16 bits",
}
LONG = {"2,000,000 attributes", "6,000,000 frames' items"}


def read_pixels(path: Path) -> int:
    """Header and pixels of a slice -> the process's peak memory, MB."""
    header = read_header(path)
    if header.ignored.startswith("no "):
        raise Rejected(header.ignored)
    if header.slices:
        first = header.slices[0]
        stack = (first, replace(first, position=(0.0, 0.0, 1.0)))
        series = Series(header.series_instance_uid, "1.2", stack, None, "", 1.0, "", "", "")
        load_volume(series, {header.sop_instance_uid: path})
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) // 1024 if found else 0


@pytest.fixture(scope="module")
def reader() -> Reader[int]:
    return Reader(read_pixels, timeout=30.0)


@pytest.mark.parametrize(
    "what", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in BOMBS]
)
def test_a_bomb_is_refused_and_the_next_file_is_read(tmp_path: Path, reader: Reader[int], what: str) -> None:
    bomb, good = tmp_path / "bomb.dcm", tmp_path / "good.dcm"
    bomb.write_bytes(BOMBS[what]())
    good.write_bytes(file_of(slice_of()))
    answer, peak = reader.read_all([bomb, good])
    assert isinstance(peak, int), peak
    assert peak < 800, "MB"
    if SAID[what]:
        assert isinstance(answer, str)
        assert SAID[what] in answer


def test_a_reader_of_headers_has_a_limit_of_memory(tmp_path: Path) -> None:
    reader: Reader[str] = Reader(greedy)
    try:
        assert reader.read_all([tmp_path]) == ["the file cannot be read (MemoryError)"]
    finally:
        reader.close()


def greedy(_path: Path) -> str:
    bytearray(limits.READER_BYTES)
    return "it had the memory"


def test_what_a_compressed_frame_claims_is_what_it_is() -> None:
    ds = slice_of(side=64)
    ds.Rows = 32
    ds.PixelData = ds.PixelData[: 32 * 64 * 2]
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    frame = ds.PixelData[ds.PixelData.index(b"\xff\x4f\xff\x51") :]
    assert wavelet_claim(frame) == Claim(32, 64, 1, 16)
    box = b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00\x00\x00\x08free" + b"\x00\x00\x00\x00jp2c"
    assert wavelet_claim(box + frame) == Claim(32, 64, 1, 16)
    assert wavelet_claim(b"") == wavelet_claim(box) == Claim()
    application, fill = b"\xff\xe0\x00\x04\xff\xc3", b"\xff"
    frame = b"\xff\xc3\x00\x0b\x10\x00\x20\x00\x40\x01\x01\x11\x00"
    assert scan_claim(b"\xff\xd8" + application + fill + frame) == Claim(32, 64, 1, 16)
    assert scan_claim(b"\xff\xd8" + application) == scan_claim(b"") == Claim()
    jfif = b"\xff\xe0\x00\x10JFIF\x00\x03\x00\x00\x00\x01\x00\x01\x00\x00"
    assert scan_claim(b"\xff\xd8" + jfif + frame) == Claim(32, 64, 1, 16, jfif=3)


def test_a_jfif_header_that_ends_gdcm_is_refused(tmp_path: Path, reader: Reader[int]) -> None:
    plain, odd = tmp_path / "plain.dcm", tmp_path / "odd.dcm"
    plain.write_bytes(file_of(slice_of()))
    data = encoded(["dcmcjpeg", "+e1"], plain).read_bytes()
    at = data.index(b"JFIF\0") + 5
    odd.write_bytes(data[:at] + b"\x03" + data[at + 1 :])
    answer, read = reader.read_all([odd, plain])
    assert "its JPEG has a JFIF header of version 3, not 1" in str(answer)
    assert isinstance(read, int)


@pytest.mark.parametrize("encode", ["+e1", "+ee", "JPEG 2000"])
@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        (
            "PhotometricInterpretation",
            "RGB",
            "no usable Photometric Interpretation (0028,0004) (RGB, expected MONOCHROME1 or MONOCHROME2)",
        ),
        ("BitsAllocated", 32, "its compressed pixels have 32 bits allocated, not 8 or 16"),
        ("PixelRepresentation", 2, "no usable Pixel Representation (0028,0103) (2, expected 0 or 1)"),
    ],
)
def test_no_kind_of_pixels_ends_the_reader(
    tmp_path: Path, reader: Reader[int], encode: str, keyword: str, value: object, said: str
) -> None:
    plain, odd, ds = tmp_path / "plain.dcm", tmp_path / "odd.dcm", slice_of(side=64)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
    plain.write_bytes(file_of(ds))
    if encode == "JPEG 2000":
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    else:
        ds = dcmread(encoded(["dcmcjpeg", encode], plain))
    setattr(ds, keyword, value)
    odd.write_bytes(file_of(ds))
    answer, read = reader.read_all([odd, plain])
    assert said in str(answer)
    assert isinstance(read, int)


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("PhotometricInterpretation", "RGB", "Photometric Interpretation is not"),
        ("PixelRepresentation", 2, "Pixel Representation is 2"),
        ("SamplesPerPixel", 3, "3 samples a pixel"),
        ("BitsStored", 33, "stores 33 of 16 bits"),
    ],
)
def test_a_file_that_changed_since_its_header_was_read_is_not_decoded(
    keyword: str, value: object, said: str
) -> None:
    ds = slice_of()
    setattr(ds, keyword, value)
    with pytest.raises(TooMuch, match=said):
        check_frames(ds, (16, 16))


def test_a_stack_of_other_slices_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(file_of(slice_of()))
    header: Header = read_header(path)
    other = replace(header.slices[0], rows=17)
    series = Series("1.2.3.4", "1.2", (other, other), None, "", 1.0, "", "", "")
    with pytest.raises(Rejected, match="it has 16 x 16 pixels, the stack 17 x 16"):
        load_volume(series, {header.sop_instance_uid: path})


def test_a_sequence_that_is_none_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """pydicom raises OSError then, as a disk would."""
    path = tmp_path / "a.dcm"
    sequence, number = b"\x40\x00\x55\x05SQ\x00\x00\x04\x00\x00\x00\xfe\xff\x00\xe0", b"\x28\x00\x02\x00"
    path.write_bytes(file_of(slice_of()).replace(number, sequence + number))
    with pytest.raises(Rejected, match="cannot be read"):
        read_header(path)
