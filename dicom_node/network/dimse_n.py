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

#: What is read of a data set, bytes: references to 18,000 images. These are the only ones read in a receiving process.
LIMIT = 2_000_000
#: Deflated is not among them: a few bytes of it become any number.
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
VALID_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


@dataclass(frozen=True)
class Status:
    """A status with its Error Comment (0000,0902) and Error ID (0000,0903)."""

    code: int
    comment: str = ""
    error_id: int | None = None


#: Statuses any of these services answers with (PS3.7 Annex C).
COMMON: Mapping[str, Status] = {
    "malformed": Status(0x0115, "The data set cannot be used"),
    "unavailable": Status(0x0213, "Database unavailable, send again later"),
    "bug": Status(0x0110, "Internal error"),
}


def read_attributes(value: Any, transfer_syntax: str) -> Dataset:
    """The data set of a request.

    Parameters
    ----------
    value : BytesIO or None
    transfer_syntax : str
        Of the presentation context.

    Raises
    ------
    Rejected
        Where it is missing, larger than `LIMIT`, or no data set.
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
    """Read values of a data set that came from anyone: whatever goes wrong inside is the fault of the data set.

    pydicom reads a value only when it is asked for: what a sequence holds may be found damaged, or no sequence, then.

    Raises
    ------
    Rejected
        Where anything is raised inside; the text of others' errors may hold values, and is left out.
    """
    try:
        yield
    except Rejected:
        raise
    except Exception as error:
        raise Rejected(f"it cannot be read ({type(error).__name__})") from error


def text(ds: Dataset, keyword: str) -> str:
    """The value of a short element, as far as it is ASCII; "" where there is none.

    Not converted by pydicom, which writes values that it dislikes into the log.
    """
    element = ds.get_item(keyword)
    value = b"" if element is None or not isinstance(element.value, bytes) else element.value
    return value.decode("ascii", "replace").strip("\0 ")


def valid_uid(value: Any) -> str:
    """The UID, if it is one (PS3.5 9.1).

    Raises
    ------
    Rejected
    """
    uid = str(value or "")
    if len(uid) > 64 or not VALID_UID.fullmatch(uid):
        raise Rejected("a UID is missing or invalid")
    return uid


def answered(what: str, serve: Callable[[], str], statuses: Mapping[str, Status]) -> Dataset:
    """Serve a request; whatever happens, the peer gets a status, and the log a reason without patient data.

    Parameters
    ----------
    what : str
        Names the request in the log.
    serve : callable
        Returns a key of `statuses`.
    statuses : mapping
        Of the service, those in `COMMON` among them.
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
