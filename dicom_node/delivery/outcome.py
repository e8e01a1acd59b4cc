"""What is sent to a destination, what came of it, and what each status of an answer means."""

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
    """One object due at one destination.

    Parameters
    ----------
    job_id : int
        The job it is a result of.
    sha256 : str
        Of the file as it was made; "" where an older version did not keep it.
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
        """What is wrong with the file: "" where it is as it was made.

        Raises
        ------
        OSError
            Where it cannot be read.
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
    """What came of sending one parcel.

    Parameters
    ----------
    verdict : {"sent", "later", "never"}
        ``later`` also where nobody knows whether it arrived: it is sent again, with the same UIDs.
    reason : str
    status : int or None
        Of the C-STORE response, or the HTTP status; None where there was no answer.
    """

    verdict: Verdict
    reason: str
    status: int | None = None


#: What to do after a status (PS3.4 B.2.3, PS3.7 Annex C): first and last status, verdict, meaning.
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
    """What to do after a C-STORE status, or a Failure Reason (0008,1197), and its meaning.

    Examples
    --------
    >>> judge(0xA700)
    Outcome(verdict='later', reason='refused: out of resources (0xA700)', status=42752)
    """
    for first, last, verdict, meaning in STATUSES:
        if first <= status <= last:
            return Outcome(verdict, f"{meaning} (0x{status:04X})", status)
    raise Rejected(f"{status} is no DIMSE status")


class Retried(Protocol):
    """Where something is sent again and again; a `config.Destination`, or who waits for a report."""

    @property
    def retry_seconds(self) -> float: ...
    @property
    def max_retry_seconds(self) -> float: ...


def pause(peer: Retried, attempts: int) -> float:
    """Seconds until the next attempt: doubled each time up to the longest, less up to a quarter of jitter."""
    longest = min(peer.retry_seconds * 2.0 ** min(attempts, 30), peer.max_retry_seconds)
    return longest * random.uniform(0.75, 1.0)
