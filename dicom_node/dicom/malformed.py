"""What pydicom raises on malformed bytes, odd character sets and values that are not of their VR."""

from __future__ import annotations

import struct
import zlib

from pydicom.errors import BytesLengthException, InvalidDicomError

MALFORMED = (
    BytesLengthException,
    InvalidDicomError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    struct.error,
    NotImplementedError,
    OverflowError,
    RecursionError,
    MemoryError,
    zlib.error,
)
