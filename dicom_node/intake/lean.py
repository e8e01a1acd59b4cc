"""The start of a process that receives, before anything large is imported: it needs no pixels, and decodes none.

pydicom imports numpy, Pillow and its decoders where they are installed. A process that receives parses no data set, so
it does without them, and is half as large. Nothing here may import a library; `receivers` is imported only once the
libraries are shut out.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import reduction
from types import ModuleType
from typing import Any

from ..settings.config import Config

#: Libraries for pixels, and what pydicom imports for downloads: all optional to it.
SHUT_OUT = ("numpy", "PIL", "gdcm", "_gdcm", "pylibjpeg", "openjpeg", "libjpeg", "rle", "jpeg_ls", "tqdm")

#: pydicom's names of private attributes, 6 MB: of data sets only those of MPPS and storage commitment are read here, in
#: which none matters.
PRIVATE = "pydicom._private_dict"

#: Parameters of mallopt(3), and their values here (bytes): memory beyond the first is given back to the system, a block
#: above the second is had from it by itself. An image needs half a megabyte.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, BLOCK_BYTES = 32 << 20, 8 << 20


class Held:
    """A file descriptor that spawned processes hold too, so that its lock lasts until the last of them has ended."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> Any:
        return _hold, (reduction.DupFd(self.descriptor),)


def _hold(duplicate: Any) -> Held:
    return Held(duplicate.detach())


@dataclass(frozen=True)
class Order:
    """The arguments of an acceptor process; `identity` is that of the node's database, see `Database`."""

    config: Config
    listening: Any
    lock: Held
    numbers: Any
    own: int
    prepare: Callable[[], None] | None
    member: str = ""
    identity: str = ""


def accept(order: Order, pipe: Any) -> None:
    """Receive until the node ends (the target of the process)."""
    shut_out()
    keep_freed_memory()
    from .receivers import accept as receive

    receive(order, pipe)


def keep_freed_memory() -> None:
    """Let the C library keep the memory that one image leaves for the next one.

    glibc raises these limits by itself as large blocks are freed, which the libraries shut out here would do; without
    them each image's memory is given back and asked for anew.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, BLOCK_BYTES)


def shut_out() -> None:
    """Let nothing import the libraries that this process does without."""
    for name in SHUT_OUT:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # an import of it raises ImportError
    private = ModuleType(PRIVATE)
    private.private_dictionaries = {}  # type: ignore[attr-defined]
    sys.modules.setdefault(PRIVATE, private)
