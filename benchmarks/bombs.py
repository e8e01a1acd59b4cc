"""Small files that ask for much: each with a way to exhaust memory, stack or time of who reads it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO

import numpy as np
from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

CT_IMAGE = UID("1.2.840.10008.5.1.4.1.1.2")
ENHANCED_CT = UID("1.2.840.10008.5.1.4.1.1.2.1")
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
SEQUENCE = struct.pack("<HH2sHL", 0x0040, 0x0555, b"SQ", 0, 0xFFFFFFFF)
GIGABYTE = 1 << 30
#: The element of 16 x 16 pixels at the end of a file, bytes.
PIXELS = 12 + 2 * 16 * 16


def slice_of(syntax: UID = ExplicitVRLittleEndian, sop_class: UID = CT_IMAGE, side: int = 16) -> Dataset:
    """A CT slice that is all right."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, "1.2.3.4.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.3", "1.2.3.4", "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness, ds.RescaleSlope, ds.RescaleIntercept = [1, 1], 1, 1, 0
    ds.Rows = ds.Columns = side
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 1, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = np.arange(side * side, dtype="<i2").tobytes()
    return ds


def file_of(ds: Dataset) -> bytes:
    """As a file (PS3.10)."""
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def deflated() -> bytes:
    """A gigabyte of zeros in a megabyte."""
    ds = slice_of(DeflatedExplicitVRLittleEndian)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(1 << 24)
    plain = file_of(slice_of())
    at = plain.index(struct.pack("<HH", 0x0008, 0x0008))  # the data set begins with Image Type
    pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, GIGABYTE)
    start = squeeze.compress(plain[at:-PIXELS] + pixels) + squeeze.flush(zlib.Z_FULL_FLUSH)
    block = squeeze.compress(zeros) + squeeze.flush(zlib.Z_FULL_FLUSH)  # refers to nothing before it
    head = file_of(ds)
    length = int.from_bytes(head[140:144], "little")
    return head[: 144 + length] + start + block * (GIGABYTE >> 24) + squeeze.flush()


def huge_length() -> bytes:
    """An Image Comments of 4 GB, as its length says."""
    element = struct.pack("<HH2sHL", 0x0020, 0x4000, b"UT", 0, 0xFFFFFFF0)
    plain = file_of(slice_of())
    at = plain.index(struct.pack("<HH", 0x0028, 0x0002))
    return plain[:at] + element + plain[at:]


def deep_sequences() -> bytes:
    """200,000 sequences, each in an item of the one before."""
    plain = file_of(slice_of())
    at = plain.index(struct.pack("<HH", 0x7FE0, 0x0010))
    return plain[:at] + (SEQUENCE + ITEM) * 200_000


def many_items() -> bytes:
    """Six million empty frames."""
    plain = file_of(slice_of(sop_class=ENHANCED_CT))
    at = plain.index(struct.pack("<HH", 0x7FE0, 0x0010))
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 6_000_000
    return plain[:at] + struct.pack("<HH2sHL", 0x5200, 0x9230, b"SQ", 0, len(items)) + items


def many_elements() -> bytes:
    """Two million attributes."""
    plain = file_of(slice_of())
    at = plain.index(struct.pack("<HH", 0x7FE0, 0x0010))
    elements = b"".join(
        struct.pack("<HH2sH", 0x0055 + 2 * (n >> 15), 0x1000 + (n & 0x7FFF), b"LO", 0)
        for n in range(2_000_000)
    )
    return plain[:at] + elements + plain[at:]


def huge_rows() -> bytes:
    """65535 x 65535 pixels, none of them there."""
    ds = slice_of()
    ds.Rows = ds.Columns = 65535
    return file_of(ds)


def many_frames() -> bytes:
    """2,000,000,000 frames, none of them there."""
    ds = slice_of()
    ds.NumberOfFrames = 2_000_000_000
    return file_of(ds)


def rle() -> bytes:
    """65535 x 65535 pixels in two segments of 64 bytes."""
    ds = slice_of(RLELossless)
    ds.Rows = ds.Columns = 65535
    ds.PixelData = encapsulate([struct.pack("<16L", 2, 64, 128, *[0] * 13) + b"\x81\x00" * 64])
    return file_of(ds)


def jpeg_lossless() -> bytes:
    """A slice of 16 x 16 whose JPEG says 65500 x 65500."""
    table = b"\xff\xc4" + struct.pack(">HB", 2 + 17 + 1, 0) + b"\x01" + bytes(15) + b"\x00"
    return _jpeg(JPEGLosslessSV1, b"\xff\xc3", table, b"\x01\x00\x00")


def jpeg_ls() -> bytes:
    """The same for JPEG-LS."""
    return _jpeg(JPEGLSLossless, b"\xff\xf7", b"", b"\x00\x00\x00")


def _jpeg(syntax: UID, frame: bytes, tables: bytes, scan: bytes) -> bytes:
    ds = slice_of(syntax)
    size = frame + struct.pack(">HBHHBBBB", 11, 16, 65500, 65500, 1, 1, 0x11, 0)
    start = b"\xff\xda" + struct.pack(">HBBB", 8, 1, 1, 0) + scan
    ds.PixelData = encapsulate([b"\xff\xd8" + size + tables + start + bytes(64) + b"\xff\xd9"])
    return file_of(ds)


def jpeg_2000() -> bytes:
    """A slice of 16 x 16 whose JPEG 2000 says 2,000,000,000 x 2,000,000,000."""
    ds = slice_of(side=64)
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    data = file_of(ds)
    at = data.index(b"\xff\x4f\xff\x51")
    side = struct.pack(">L", 2_000_000_000)
    return data[: at + 8] + side + side + data[at + 16 : at + 24] + side + side + data[at + 32 :]


BOMBS: Mapping[str, Callable[[], bytes]] = {
    "1 GB, deflated": deflated,
    "an attribute of 4 GB": huge_length,
    "200,000 sequences deep": deep_sequences,
    "6,000,000 frames' items": many_items,
    "2,000,000 attributes": many_elements,
    "65535 x 65535, absent": huge_rows,
    "2,000,000,000 frames, absent": many_frames,
    "65535 x 65535, RLE": rle,
    "65500 x 65500, JPEG Lossless": jpeg_lossless,
    "65500 x 65500, JPEG-LS": jpeg_ls,
    "2,000,000,000 x 2,000,000,000, JPEG 2000": jpeg_2000,
}
