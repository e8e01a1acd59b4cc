"""A DIMSE-N request from anyone -> its data set, read within limits -> a status and its comment (PS3.7 Annex C)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.dsutils import decode

from ..errors import Rejected, Unavailable
from ..printable import printable

LOG = logging.getLogger(__name__)

#: Largest data set that is read (bytes), enough for references to 18,000 images. A receiving process reads no others.
LIMIT = 2_000_000
#: Deflated is not among them, since a few of its bytes may expand to any number.
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
VALID_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


@dataclass(frozen=True)
class Status:
    """A status with its Error Comment (0000,0902) and Error ID (0000,0903)."""

    code: int
    comment: str = ""
    error_id: int | None = None


#: Statuses that any of these services may answer with (PS3.7 Annex C).
COMMON: Mapping[str, Status] = {
    "malformed": Status(0x0115, "The data set cannot be used"),
    "unavailable": Status(0x0213, "Database unavailable, send again later"),
    "bug": Status(0x0110, "Internal error"),
}


def read_attributes(value: Any, transfer_syntax: str) -> Dataset:
    """Read the data set of a request.

    Parameters
    ----------
    value : BytesIO or None
    transfer_syntax : str
        Transfer syntax of the presentation context.

    Raises
    ------
    Rejected
        Where the data set is missing, larger than `LIMIT`, or cannot be decoded.
    """
    if value is None or not value.getbuffer().nbytes:
        raise Rejected("there is no data set")
    if (size := value.getbuffer().nbytes) > LIMIT:
        raise Rejected(f"a data set of {size} bytes, the limit is {LIMIT}")
    syntax = UID(transfer_syntax)
    if syntax == DeflatedExplicitVRLittleEndian:
        raise Rejected("a deflated data set")
    with hostile():
        return decode(value, syntax.is_implicit_VR, syntax.is_little_endian)


@contextmanager
def hostile() -> Iterator[None]:
    """Turn every error inside the block into `Rejected`, since values of a data set from anyone are read there.

    pydicom decodes a value only when it is accessed, so a damaged sequence may be found only then.

    Raises
    ------
    Rejected
        Where anything is raised inside the block. The message omits the original error's text, which may quote values.
    """
    try:
        yield
    except Rejected:
        raise
    except Exception as error:
        raise Rejected(f"it cannot be read ({type(error).__name__})") from error


def text(ds: Dataset, keyword: str) -> str:
    """Return the ASCII characters of a short element's value; "" where there is none.

    The value is not converted by pydicom, which would log values that it finds invalid.
    """
    element = ds.get_item(keyword)
    value = b"" if element is None or not isinstance(element.value, bytes) else element.value
    return value.decode("ascii", "replace").strip("\0 ")


def valid_uid(value: Any) -> str:
    """Return the UID if it is valid (PS3.5 9.1).

    Raises
    ------
    Rejected
        Where it is not.
    """
    uid = str(value or "")
    if len(uid) > 64 or not VALID_UID.fullmatch(uid):
        raise Rejected("a UID is missing or invalid")
    return uid


def answered(what: str, serve: Callable[[], str], statuses: Mapping[str, Status]) -> Dataset:
    """Serve a request so that, even after an error, the peer gets a status and the log a reason without patient data.

    Parameters
    ----------
    what : str
        Name of the request in the log.
    serve : callable
        Returns a key of `statuses`.
    statuses : mapping
        Statuses of the service, including those in `COMMON`.
    """
    try:
        answer = serve()
    except Rejected as error:
        answer = "malformed"
        LOG.warning("%s refused: %s", what, printable(str(error)))
    except Unavailable as error:
        answer = "unavailable"
        LOG.error("%s refused: %s", what, printable(str(error)))
    except Exception as error:  # noqa: BLE001  the boundary to hostile values, whose text must not be logged
        answer = "bug"
        LOG.error("%s failed: %s", what, type(error).__name__)
    found, status = statuses[answer], Dataset()
    status.Status = found.code
    if found.comment:
        status.ErrorComment = found.comment
    if found.error_id is not None:
        status.ErrorID = found.error_id
    return status
