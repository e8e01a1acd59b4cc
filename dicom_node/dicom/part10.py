"""UIDs of an instance -> the header of its file, and back: preamble and File Meta Information (PS3.10 7.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

#: Implementation Class UID (PS3.7 D.3.3.2) of this node, from a UUID (PS3.5 B.2).
#: Manufacturer (0008,0070) of our own results: by it they are known again, and start nothing.
MANUFACTURER = "vq-dicom-node"
IMPLEMENTATION_CLASS_UID = "2.25.92895074691723704340970795110280166650"
IMPLEMENTATION_VERSION = "VQ_DICOM_NODE"

PREAMBLE = b"\x00" * 128 + b"DICM"
#: File Meta Information Group Length (0002,0000), whose value follows.
GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
#: File Meta Information Version (0002,0001), whole.
VERSION = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"
#: Longest File Meta Information to read; what this node writes is shorter.
LONGEST = 1024


@dataclass(frozen=True)
class FileMeta:
    """Hold the Media Storage SOP Class and Instance UIDs and the Transfer Syntax UID."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return the bytes that precede the data set in a file."""
    group = VERSION + b"".join(
        _element(*one)
        for one in (
            (0x0002, b"UI", sop_class_uid),
            (0x0003, b"UI", sop_instance_uid),
            (0x0010, b"UI", transfer_syntax_uid),
            (0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            (0x0013, b"SH", IMPLEMENTATION_VERSION),
        )
    )
    return PREAMBLE + GROUP_LENGTH + struct.pack("<L", len(group)) + group


def read_file_meta(file: BinaryIO) -> tuple[FileMeta, bytes]:
    """Read the UIDs at the beginning of a file that this node wrote, and all bytes before its data set.

    Raises
    ------
    ValueError
        Where the file begins with anything else.
    """
    start = PREAMBLE + GROUP_LENGTH
    head = file.read(len(start) + 4)
    length = int.from_bytes(head[len(start) :], "little")
    if not head.startswith(start) or length > LONGEST or len(group := file.read(length)) != length:
        raise ValueError("no File Meta Information")
    values: dict[int, str] = {}
    at = len(VERSION)
    try:
        while at < length:
            _, number, _, size = struct.unpack_from("<HH2sH", group, at)
            values[number] = group[at + 8 : at + 8 + size].rstrip(b"\x00 ").decode("ascii")
            at += 8 + size
        return FileMeta(values[0x0002], values[0x0003], values[0x0010]), head + group
    except (struct.error, UnicodeDecodeError, KeyError) as error:
        raise ValueError("malformed File Meta Information") from error


def _element(number: int, vr: bytes, text: str) -> bytes:
    """Return element (0002,number) in Explicit VR Little Endian, padded to even length (PS3.5 6.2)."""
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\x00" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value
