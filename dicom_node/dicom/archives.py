"""A zip archive -> its files, one by one, in a folder of their own: limited in size, whatever the archive claims."""

from __future__ import annotations

import errno
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import inflate64

from ..errors import Rejected

#: Limits for everything unpacked from one source, in bytes and in files: several 4D CTs of ten phases fit.
MOST_BYTES = 1 << 36
MOST_FILES = 100_000
#: Images do not compress a hundredfold, so such a ratio shows a zip bomb; it is checked only above this many bytes.
RATIO, SMALL = 100, 1 << 28
#: How deep archives may be nested in archives.
DEPTH = 3
PIECE = 1 << 20
#: Compression Method (APPNOTE 4.4.5) of Deflate64, which Windows writes above 2 GB and zipfile does not read.
DEFLATE64 = 9
READABLE = frozenset(
    {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, DEFLATE64}
)
#: First bytes of archives that are not zip files -> the name of the format.
OTHERS = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "RAR",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
}
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, OSError)


@dataclass
class Unpacked:
    """Count how much of one source has been unpacked so far."""

    size: int = 0
    files: int = 0
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(MOST_FILES + 1)))


class _Decompressor(Protocol):
    def inflate(self, data: bytes) -> bytes: ...


def kind_of(path: Path) -> str:
    """Return the kind of archive that a file is by its first bytes; "" for none."""
    with path.open("rb") as file:
        start = file.read(264)
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"):
        return "zip"
    if start[257:262] == b"ustar":
        return "tar"
    return next((name for magic, name in OTHERS.items() if start.startswith(magic)), "")


def unpack(
    archive: Path, folder: Path, so_far: Unpacked | None = None, depth: int = 1, name: str = ""
) -> Iterator[Path]:
    """Unpack the files of a zip archive, and of archives within it, as they are asked for.

    The files are named by numbers: names in the archive may be paths out of the folder, or a patient's name.

    Parameters
    ----------
    archive, folder : Path
        The folder is created; the caller removes it.
    so_far : Unpacked, optional
        Shared by all archives of a source: the limits hold for all of them together.
    depth : int
        Nesting depth: how many archives contain this one, itself counted.
    name : str
        The archive's name in messages; the default is its file name.

    Raises
    ------
    Rejected
        Where the file is not a zip archive, is encrypted, damaged or cut short, uses a compression method that
        cannot be read, or is a zip bomb.
    """
    so_far, name = so_far or Unpacked(), name or f"the archive {archive.name}"
    kind = kind_of(archive)
    if not kind:
        raise Rejected(f"{archive.name} is no archive that can be read: copy it again")
    if kind != "zip":
        raise Rejected(f"{name} is a {kind} archive: unpack it and name the folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _opened(archive, name) as opened:
        entries = [e for e in opened.infolist() if not e.is_dir() and Path(e.filename).name != "DICOMDIR"]
        for number, entry in enumerate(entries, 1):
            target = folder / f"{next(so_far.numbers, MOST_FILES):06d}"
            _write(opened, entry, target, so_far, f"{name}, file {number} of {len(entries)}")
            if kind_of(target) != "zip":
                yield target
                continue
            if depth >= DEPTH:
                raise Rejected(f"{name} holds archives within archives, more than {DEPTH} deep: unpack it")
            yield from unpack(target, folder, so_far, depth + 1, f"{name}, an archive in it")
            target.unlink()


def _opened(archive: Path, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except DAMAGED as error:
        if _of_the_disk(error):
            raise
        if "disk" in str(error):
            raise Rejected(f"{name} is a part of a split archive: join its parts, or unpack it") from error
        raise Rejected(f"{name} is cut short or damaged: copy it again") from error


def _write(
    opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, so_far: Unpacked, where: str
) -> None:
    """Write one entry of an archive into a file, piece by piece, and refuse it once a limit is exceeded."""
    if entry.flag_bits & 0x1:
        raise Rejected(f"{where} is encrypted: unpack it with its password and name the folder")
    if entry.compress_type not in READABLE:
        raise Rejected(
            f"{where} is compressed by method {entry.compress_type}, which is not read: zip it again"
        )
    so_far.files += 1
    if so_far.files > MOST_FILES:
        raise Rejected(f"{where} is one of more than {MOST_FILES} files: a source may not hold so many")
    size, checksum = 0, 0
    try:
        with target.open("xb") as out:
            for piece in (
                _deflate64(opened, entry) if entry.compress_type == DEFLATE64 else _plain(opened, entry)
            ):
                size += len(piece)
                so_far.size += len(piece)
                checksum = zlib.crc32(piece, checksum)
                if so_far.size > MOST_BYTES or size > max(SMALL, RATIO * entry.compress_size):
                    raise Rejected(f"{where} becomes too large ({size >> 20} MB and more): it is no image")
                out.write(piece)
    except RuntimeError as error:  # zipfile raises this for encryption that the flag does not show
        raise Rejected(f"{where} cannot be unpacked: {error}") from error
    except DAMAGED as error:
        if _of_the_disk(error):
            raise
        raise Rejected(f"{where} is damaged: copy the archive again") from error
    if size != entry.file_size or checksum != entry.CRC:
        raise Rejected(f"{where} is damaged: copy the archive again")


def _of_the_disk(error: Exception) -> bool:
    """Return whether an error is the disk's; a damaged archive makes zipfile seek to before the file's start."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def _plain(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    with opened.open(entry) as file:
        while piece := file.read(PIECE):
            yield piece


def _deflate64(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the inflated bytes that follow an entry's local header (APPNOTE 4.3.7)."""
    file: IO[bytes] | None = opened.fp
    assert file is not None
    file.seek(entry.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("no local header")
    file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
    left, inflater = entry.compress_size, _inflater()
    while left > 0 and (piece := file.read(min(1 << 16, left))):
        left -= len(piece)
        yield inflater.inflate(piece)


def _inflater() -> _Decompressor:
    made: _Decompressor = inflate64.Inflater()
    return made
