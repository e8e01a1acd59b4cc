"""Parcels that are sent to a destination, their outcomes, and the meaning of each status of an answer."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ..errors import Rejected

Verdict = Literal["sent", "later", "never"]


@dataclass(frozen=True)
class Parcel:
    """One object that is due at one destination.

    Parameters
    ----------
    job_id : int
        Number of the job that made the object.
    sha256 : str
        Digest of the file as it was made; "" where an older version did not record it.
    """

    id: int
    sop_instance_uid: str
    sop_class_uid: str
    path: Path
    created: float
    attempts: int
    job_id: int = 0
    sha256: str = ""

    @property
    def problem(self) -> str:
        """Return what is wrong with the file, or "" where it is as it was made.

        Raises
        ------
        OSError
            Where the file cannot be read.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return "its file is missing"
        if self.sha256:
            return "" if hashlib.sha256(content).hexdigest() == self.sha256 else "its file is damaged"
        return "" if content[128:132] == b"DICM" else "its file is damaged"


@dataclass(frozen=True)
class Outcome:
    """The outcome of sending one parcel.

    Parameters
    ----------
    verdict : {"sent", "later", "never"}
        ``later`` also where it is unknown whether the object arrived: it is sent again with the same UIDs.
    reason : str
    status : int or None
        Status of the C-STORE response, or HTTP status; None where there was no answer.
    """

    verdict: Verdict
    reason: str
    status: int | None = None


#: Verdict on each range of statuses (PS3.4 B.2.3, PS3.7 Annex C): first and last status, verdict, meaning.
STATUSES: tuple[tuple[int, int, Verdict, str], ...] = (
    (0x0000, 0x0000, "sent", "stored"),
    (0x0111, 0x0111, "sent", "there already: duplicate SOP instance"),
    (0xB000, 0xBFFF, "sent", "stored with a warning"),
    (0x0117, 0x0117, "never", "refused: invalid SOP instance"),
    (0x0122, 0x0122, "never", "refused: SOP class not supported"),
    (0xA700, 0xA7FF, "later", "refused: out of resources"),
    (0xA900, 0xA9FF, "never", "refused: data set does not match its SOP class"),
    (0xC000, 0xCFFF, "later", "refused: cannot understand"),
    (0x0000, 0xFFFF, "later", "refused"),
)


def judge(status: int) -> Outcome:
    """Return the outcome that a C-STORE status or a Failure Reason (0008,1197) stands for.

    Examples
    --------
    >>> judge(0xA700)
    Outcome(verdict='later', reason='refused: out of resources (0xA700)', status=42752)
    """
    for first, last, verdict, meaning in STATUSES:
        if first <= status <= last:
            return Outcome(verdict, f"{meaning} (0x{status:04X})", status)
    raise Rejected(f"{status} is not a DIMSE status")


class Retried(Protocol):
    """A peer to which sending is retried: a destination, or the requester of a report."""

    @property
    def retry_seconds(self) -> float: ...
    @property
    def max_retry_seconds(self) -> float: ...


def pause(peer: Retried, attempts: int) -> float:
    """Return the pause before the next attempt (s), doubled each time up to the longest, less up to a quarter."""
    longest = min(peer.retry_seconds * 2.0 ** min(attempts, 30), peer.max_retry_seconds)
    return longest * random.uniform(0.75, 1.0)
