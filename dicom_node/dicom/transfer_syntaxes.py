"""Transfer Syntax UID (0002,0010) of a file -> whether its pixels can be decoded; without one, what the bytes show."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from .attributes import named

PIXEL_DATA = Tag(0x7FE0, 0x0010)
UNDEFINED_LENGTH = 0xFFFFFFFF
NATIVE = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
)


def syntax_problem(path: Path, ds: Dataset) -> str:
    """Return why no pixels in the file's transfer syntax can be decoded; "" where they can, or there are none.

    Parameters
    ----------
    path : Path
    ds : Dataset
        As read from the file, with its File Meta Information if there is any.
    """
    syntax = UID(str(_meta(ds).get("TransferSyntaxUID") or ""))
    if syntax:
        known = syntax in NATIVE or syntax == JPEGExtended12Bit or _has_decoder(syntax)
        return "" if known or not _is_image(ds) else f"nothing here decodes its {_of(syntax)}"
    whole = dcmread(path, force=True, defer_size=1024, specific_tags=[PIXEL_DATA])
    element = whole.get_item(PIXEL_DATA)
    if element is not None and (getattr(element, "length", 0) == UNDEFINED_LENGTH or _encapsulated(element)):
        return f"its pixels are compressed, and without {named(0x00020010)} nothing says how"
    return ""


def supply(ds: Dataset) -> None:
    """Give a data set without a transfer syntax the one its bytes were read with (PS3.5 A.1, A.2, A.3)."""
    meta = _meta(ds)
    if meta.get("TransferSyntaxUID"):
        return
    implicit, little = ds.original_encoding
    meta.TransferSyntaxUID = (
        ExplicitVRBigEndian
        if little is False
        else ImplicitVRLittleEndian
        if implicit
        else ExplicitVRLittleEndian
    )
    ds.file_meta = meta


def _meta(ds: Dataset) -> FileMetaDataset:
    found = getattr(ds, "file_meta", None)
    return found if found is not None else FileMetaDataset()


def _has_decoder(syntax: UID) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except (NotImplementedError, ValueError):
        return False


def _is_image(ds: Dataset) -> bool:
    """Return whether an object's pixels are needed; others may come in any transfer syntax."""
    return "Rows" in ds


def _encapsulated(element: object) -> bool:
    value = getattr(element, "value", b"")
    return isinstance(value, bytes) and value[:4] == b"\xfe\xff\x00\xe0"


def _of(syntax: UID) -> str:
    return f"Transfer Syntax UID (0002,0010) {syntax}"
