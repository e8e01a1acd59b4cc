"""A file's bytes -> whether they may be read: what they inflate to, the size their compressed frames claim."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

#: Largest size of a data set once inflated (bytes): enough for an Enhanced CT of 1000 slices.
INFLATED = 1 << 29
#: Largest number of voxels in a stack, e.g. 1024 slices of 1024 x 1024.
VOXELS = 1 << 30
#: Memory that the process reading headers may allocate (bytes).
READER_BYTES = 2 << 30
PIECE = 1 << 20

WAVELET = frozenset({*JPEG2000TransferSyntaxes, *(UID(f"1.2.840.10008.1.2.4.{n}") for n in (201, 202, 203))})
SCANS = frozenset({*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes})
#: Start of Frame of JPEG (ISO/IEC 10918-1 Table B.1) and JPEG-LS (ISO/IEC 14495-1 C.1.1).
START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
APP0 = 0xE0
#: Photometric Interpretation (0028,0004) of a CT (PS3.3 C.8.2.1.1.2).
GREY = "MONOCHROME1", "MONOCHROME2"


class TooMuch(ValueError):
    """Signal that a file asks for more than any image needs; the message follows "it cannot be read"."""


def check_inflated(path: Path) -> None:
    """Refuse a deflated data set (PS3.5 A.5) that inflates beyond the limit, without keeping it in memory.

    Raises
    ------
    TooMuch
        Where the inflated data set is longer than `INFLATED`.
    zlib.error
        Where the data set is not deflated.
    """
    with path.open("rb") as file:
        read_preamble(file, force=True)
        if _read_file_meta_info(file).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not inflate.eof and (piece := inflate.unconsumed_tail or file.read(PIECE)):
            size += len(inflate.decompress(piece, PIECE))
            if size > INFLATED:
                raise TooMuch(f"its data set inflates to more than {INFLATED >> 20} MB")


def check_frames(ds: Dataset, shape: tuple[int, int]) -> None:
    """Refuse pixel data whose size or kind is not that of a CT slice.

    Decoders allocate what a codestream claims, and GDCM ends the process where colour, bits or a JFIF header are not
    what it expects.

    Parameters
    ----------
    ds : Dataset
        With its Pixel Data (7FE0,0010) and File Meta Information.
    shape : (int, int)
        Rows and columns.

    Raises
    ------
    TooMuch
    """
    if (ds.Rows, ds.Columns) != shape:
        raise TooMuch(f"it has {ds.Rows} x {ds.Columns} pixels, the stack {shape[0]} x {shape[1]}")
    if ds.SamplesPerPixel != 1:
        raise TooMuch(f"it has {ds.SamplesPerPixel} samples a pixel, CT has 1")
    if ds.get("PhotometricInterpretation") not in GREY:
        raise TooMuch("its Photometric Interpretation is not MONOCHROME1 or MONOCHROME2")
    if not 0 < ds.BitsStored <= ds.BitsAllocated <= 32:
        raise TooMuch(f"it stores {ds.BitsStored} of {ds.BitsAllocated} bits a pixel")
    if ds.PixelRepresentation not in (0, 1):
        raise TooMuch(f"its Pixel Representation is {ds.PixelRepresentation}, not 0 or 1")
    syntax = ds.file_meta.get("TransferSyntaxUID")
    if syntax not in SCANS and syntax not in WAVELET:
        return
    if ds.BitsAllocated not in (8, 16):
        raise TooMuch(f"its compressed pixels have {ds.BitsAllocated} bits allocated, not 8 or 16")
    claim_of = wavelet_claim if syntax in WAVELET else scan_claim
    for frame in codestreams(ds):
        claim = claim_of(frame)
        if (claim.rows, claim.columns, claim.components) != (*shape, 1) or claim.bits > ds.BitsAllocated:
            raise TooMuch(f"its compressed pixels are {claim}, not {shape[0]} x {shape[1]} x 1")
        if syntax == JPEGExtended12Bit and claim.bits not in (8, 12):
            raise TooMuch(f"its JPEG has {claim.bits} bits a pixel, not 8 or 12")
        if claim.jfif != 1:
            raise TooMuch(f"its JPEG has a JFIF header of version {claim.jfif}, not 1")


def codestreams(ds: Dataset) -> Iterator[bytes]:
    """Yield each frame of compressed Pixel Data (7FE0,0010) (PS3.5 A.4)."""
    tables = ds.get("ExtendedOffsetTable"), ds.get("ExtendedOffsetTableLengths")
    return generate_frames(
        ds.PixelData,
        number_of_frames=int(ds.get("NumberOfFrames") or 1),
        extended_offsets=None if None in tables else tables,
    )


@dataclass(frozen=True)
class Claim:
    """Hold the size and kind that a codestream states for itself; zeros where it states nothing.

    `jfif` is the major version of its JFIF header (ISO/IEC 10918-5), 1 where it has none.
    """

    rows: int = 0
    columns: int = 0
    components: int = 0
    bits: int = 0
    jfif: int = 1

    def __str__(self) -> str:
        return f"{self.rows} x {self.columns} x {self.components} of {self.bits} bits"


def scan_claim(codestream: bytes) -> Claim:
    """Return the claim of a JPEG or JPEG-LS codestream.

    Examples
    --------
    >>> print(scan_claim(bytes.fromhex("ffd8 ffc3 000b 10 0100 0200 01 01 11 00")))
    256 x 512 x 1 of 16 bits
    """
    at, jfif = 2, 1
    while at + 10 <= len(codestream) and codestream[at] == 0xFF:
        marker = codestream[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in START_OF_FRAME:
            rows, columns = _number(codestream, at + 5, 2), _number(codestream, at + 7, 2)
            return Claim(rows, columns, codestream[at + 9], codestream[at + 4], jfif)
        else:
            if marker == APP0 and codestream[at + 4 : at + 9] == b"JFIF\0":
                jfif = codestream[at + 9]
            at += 2 + _number(codestream, at + 2, 2)
    return Claim()


def wavelet_claim(codestream: bytes) -> Claim:
    """Return the claim of a JPEG 2000 codestream (SIZ, ISO/IEC 15444-1 A.5.1), bare or in a JP2 file."""
    at = 0
    if codestream[4:8] == b"jP  ":
        while at + 8 <= len(codestream) and codestream[at + 4 : at + 8] != b"jp2c":
            at += max(8, _number(codestream, at, 4))
        at += 8
    if codestream[at : at + 4] != b"\xff\x4f\xff\x51" or len(codestream) < at + 43:
        return Claim()
    right, bottom, left, top = (_number(codestream, at + place, 4) for place in (8, 12, 16, 20))
    bits = (codestream[at + 42] & 0x7F) + 1
    return Claim(bottom - top, right - left, _number(codestream, at + 40, 2), bits)


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")
