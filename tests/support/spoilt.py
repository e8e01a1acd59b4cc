"""CT files whose attributes hold exactly the bytes that some sender wrote."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydicom import dcmread
from pydicom.tag import BaseTag, Tag

#: VRs whose length has four bytes (PS3.5 Table 7.1-1).
LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})


def spoil(paths: Iterable[Path], values: Mapping[tuple[int | str, str], bytes | None]) -> None:
    """Put values, by (tag or keyword, VR), into Explicit VR files byte for byte; None takes an attribute away.

    pydicom would encode every text again where the character set changes.
    """
    for path in paths:
        ds, data = dcmread(path), path.read_bytes()
        start = 144 + int.from_bytes(data[140:144], "little")
        found = {tag: ds.get_item(tag) for tag in ds.keys()}  # noqa: SIM118  a Dataset iterates over elements
        # the character set alone is converted as it is read
        plain = {
            tag: raw.value.encode() if isinstance(raw.value, str) else raw.value for tag, raw in found.items()
        }
        elements = {Tag(tag): (found[tag].VR, value or b"") for tag, value in plain.items()}
        for (name, vr), value in values.items():
            elements.pop(Tag(name), None)
            if value is not None:
                elements[Tag(name)] = vr, value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
        parts = [_element(tag, vr, value) for tag, (vr, value) in sorted(elements.items())]
        path.write_bytes(data[:start] + b"".join(parts))


def _element(number: BaseTag, vr: str, value: bytes) -> bytes:
    form = "<HH2sxxL" if vr in LONG else "<HH2sH"
    return struct.pack(form, number.group, number.element, vr.encode(), len(value)) + value
