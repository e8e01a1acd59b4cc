"""Bytes -> other bytes: what broken or hostile peers make of PDUs (PS3.8 9.3) and files (PS3.10)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

P_DATA_TF = 4
#: Lengths, numbers of rows, frames, items that programs stumble over.
NUMBERS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 32768, 65534, 65535, 1 << 20, (1 << 31) - 1, 1 << 31)
NUMBERS = (*NUMBERS, (1 << 32) - 2, (1 << 32) - 1)
#: Attributes whose values sizes are computed of: group, element (PS3.6).
SIZES = ((0x0028, 0x0010), (0x0028, 0x0011), (0x0028, 0x0100), (0x0028, 0x0101), (0x0028, 0x0002))
SIZES = (*SIZES, (0x0028, 0x0103), (0x0028, 0x0008), (0x7FE0, 0x0010))
VRS = (b"UN", b"SQ", b"OB", b"OW", b"US", b"UL", b"DS", b"IS", b"UI", b"AT", b"FD", b"PN", b"DA", b"??")

Mutate = Callable[[random.Random, bytearray], None]


def flip(rng: random.Random, data: bytearray) -> None:
    """A few bits."""
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(rng: random.Random, data: bytearray) -> None:
    """A run of bytes."""
    at, size = rng.randrange(len(data)), rng.randint(1, 32)
    filled = rng.choice((b"\x00" * size, b"\xff" * size, rng.randbytes(size)))
    data[at : at + size] = filled[: len(data) - at]


def number(rng: random.Random, data: bytearray) -> None:
    """A number of 2 or 4 bytes, either byte order."""
    size, order = rng.choice((2, 4)), rng.choice(("little", "big"))
    at = rng.randrange(max(1, len(data) - size))
    value = rng.choice(NUMBERS) % (1 << 8 * size)
    data[at : at + size] = value.to_bytes(size, order)  # type: ignore[arg-type]


def delete(rng: random.Random, data: bytearray) -> None:
    """A run of bytes is gone."""
    at = rng.randrange(len(data))
    del data[at : at + rng.randint(1, 64)]


def insert(rng: random.Random, data: bytearray) -> None:
    """A run of bytes more, random or from elsewhere in it."""
    at, size, start = rng.randrange(len(data)), rng.randint(1, 256), rng.randrange(len(data))
    data[at:at] = rng.choice((rng.randbytes(size), data[start : start + size]))


def truncate(rng: random.Random, data: bytearray) -> None:
    """The end is gone."""
    del data[rng.randrange(len(data)) :]


ANY: Sequence[Mutate] = (flip, flip, flip, overwrite, number, number, delete, insert, truncate)


def mutated_pdu(rng: random.Random, pdu: bytes, others: Sequence[bytes]) -> bytes:
    """One PDU, changed: its values, its lengths, its type, or as many bytes as it should not have.

    Parameters
    ----------
    others : sequence of bytes
        PDUs it may be replaced by: one that comes at the wrong time.
    """
    how = rng.random()
    if how < 0.03:
        return rng.choice(others)
    if how < 0.06:
        return pdu + rng.choice(others)
    head, body = bytearray(pdu[:6]), bytearray(pdu[6:])
    if how < 0.10:
        head[0] = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 255, rng.randrange(256)))
    elif how < 0.16:
        head[2:6] = rng.choice(NUMBERS).to_bytes(4, "big")
    elif head[0] == P_DATA_TF and how < 0.8 and len(body) > 6:
        value = body[6:]  # the frame stays whole: only what it carries is changed
        rng.choice(ANY)(rng, value)
        body[:4] = (len(value) + 2).to_bytes(4, "big")
        body[6:] = value
        head[2:6] = len(body).to_bytes(4, "big")
    elif body:
        rng.choice(ANY)(rng, body)
        if rng.random() < 0.7:
            head[2:6] = len(body).to_bytes(4, "big")
    return bytes(head + body)


def gently(rng: random.Random, pdu: bytes) -> bytes:
    """One PDU, changed where the association may survive it: bits of a data set, or of a command now and then."""
    data = bytearray(pdu)
    is_command = data[0] == P_DATA_TF and len(data) > 12 and data[11] & 1
    if data[0] == P_DATA_TF and (not is_command or rng.random() < 0.1):
        value = data[12:]
        rng.choice((flip, overwrite, number))(rng, value)
        data[12:] = value[: len(pdu) - 12]
    return bytes(data)


def mutated_file(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A DICOM file, changed in one to four ways; half of them in its first 2 KB, where the attributes are.

    Parameters
    ----------
    other : bytes
        Another file, whose end it may get.
    """
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        how = rng.random()
        if how < 0.2:
            _resize(rng, changed)
        elif how < 0.3:
            _retype(rng, changed)
        elif how < 0.33:
            changed = changed[: rng.randrange(1, len(changed) + 1)] + other[rng.randrange(len(other)) :]
        elif how < 0.7:
            start = changed[132:2180]
            if start:
                rng.choice(ANY[:-1])(rng, start)
                changed[132:2180] = start
        else:
            rng.choice(ANY)(rng, changed)
        if not changed:
            return bytes(other)
    return bytes(changed)


def _resize(rng: random.Random, data: bytearray) -> None:
    """Another value of Rows, Columns, Bits Allocated, …, or another length of the element."""
    group, element = rng.choice(SIZES)
    at = data.find(group.to_bytes(2, "little") + element.to_bytes(2, "little"))
    if at > 0:
        place = at + rng.choice((6, 8))
        data[place : place + 2] = (rng.choice(NUMBERS) % 65536).to_bytes(2, "little")


def _retype(rng: random.Random, data: bytearray) -> None:
    """Another VR where one stands."""
    at = data.find(rng.choice(VRS[:-1]), 132)
    if at > 0:
        data[at : at + 2] = rng.choice(VRS)
