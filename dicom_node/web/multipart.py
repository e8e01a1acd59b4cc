"""The body of a request in parts (RFC 2046 5.1) -> a file for each part, as the bytes come; limited in all respects."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from ..errors import Rejected, Unavailable
from .problems import TooLarge, WrongKind

#: Most parts of one request: a dynamic study of several series fits.
MOST_PARTS = 20_000
#: Free room is looked at after so many bytes.
LOOK_BYTES = 1 << 26


@dataclass(frozen=True)
class Limits:
    """What one request may hold.

    Parameters
    ----------
    body, part : float
        Most bytes of the request, and of one part.
    free : callable
        Returns the free room on the disk, less what must stay free (bytes).
    """

    body: float
    part: float
    free: Callable[[], float]


@dataclass
class Part:
    """One part: its media type, the file name that it gives, and the file that holds it."""

    path: Path
    media_type: str = ""
    name: str = ""
    size: int = 0
    headers: dict[str, str] = field(default_factory=dict)


def boundary_of(content_type: str, wanted: str) -> str:
    """Return the boundary of a media type.

    Raises
    ------
    WrongKind
        Where the type is not the wanted one, or names no boundary.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"").decode("latin-1")
    if kind.decode("latin-1").lower() != wanted or not 0 < len(boundary) <= 200:
        raise WrongKind(f"the body must be {wanted}, with a boundary")
    return boundary


class Parts:
    """Takes a body piece by piece and writes each part into a file of its own.

    Parameters
    ----------
    folder : Path
        New folder; whoever made this calls `remove`, whatever happens.
    boundary : str
    limits : Limits
    """

    def __init__(self, folder: Path, boundary: str, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self.parts: list[Part] = []
        self._size = self._looked = 0
        self._name, self._value = bytearray(), bytearray()
        self._out: IO[bytes] | None = None
        self._ended = False
        try:
            folder.mkdir(mode=0o700, parents=True)
            self._look()
        except OSError as error:
            raise Unavailable(f"nothing can be taken now: {error.strerror}") from error
        self._parser = MultipartParser(
            boundary.encode("latin-1"),
            {
                "on_part_begin": self._begin,
                "on_header_field": self._field,
                "on_header_value": self._content,
                "on_header_end": self._header,
                "on_part_data": self._data,
                "on_part_end": self._finish,
                "on_end": self._end,
            },
        )

    def write(self, piece: bytes) -> None:
        """Take the next piece of the body.

        Raises
        ------
        TooLarge
            Where the body or a part exceeds its limit.
        Rejected
            Where the body is not made of parts.
        Unavailable
            Where the disk is full.
        """
        self._size += len(piece)
        if self._size > self._limits.body:
            raise TooLarge(f"a request may hold {self._limits.body / 1e6:.0f} MB at most")
        if self._size - self._looked > LOOK_BYTES:
            self._looked = self._size
            self._look()
        try:
            self._parser.write(piece)
        except MultipartParseError as error:
            raise Rejected("the body is not made of parts as its boundary says") from error
        except OSError as error:
            raise Unavailable(f"nothing can be taken now: {error.strerror}") from error

    def whole(self) -> list[Part]:
        """Return the parts of a body that has ended.

        Raises
        ------
        Rejected
            Where its last boundary did not come: it was cut short.
        """
        if not self._ended:
            raise Rejected("the body is cut short: its last boundary did not come")
        return self.parts

    def remove(self) -> None:
        """Remove every file."""
        if self._out is not None:
            self._out.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _look(self) -> None:
        if self._limits.free() <= 0:
            raise Unavailable("there is too little room on the disk: send again later")

    def _begin(self) -> None:
        if len(self.parts) >= MOST_PARTS:
            raise TooLarge(f"a request may hold {MOST_PARTS} files at most")
        self.parts.append(Part(self._folder / f"{len(self.parts):06d}"))
        self._out = self.parts[-1].path.open("xb")

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _content(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        part, name = self.parts[-1], self._name.decode("latin-1").lower()
        value = self._value.decode("utf-8", "replace")
        kind, options = parse_options_header(value)
        if name == "content-type":
            part.media_type = kind.decode("latin-1").lower()
        elif name == "content-disposition":
            part.name = options.get(b"filename", b"").decode("latin-1")[:255]
        part.headers[name] = value[:255]
        self._name.clear()
        self._value.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        part.size += end - start
        if part.size > self._limits.part:
            raise TooLarge(f"one file may have {self._limits.part / 1e6:.0f} MB at most")
        assert self._out is not None
        self._out.write(data[start:end])

    def _finish(self) -> None:
        assert self._out is not None
        self._out.close()
        self._out = None

    def _end(self) -> None:
        self._ended = True
