"""An event -> its sentences in a message: fixed texts with UIDs, job numbers and names of the configuration only.

Reasons are left out, because they may quote what somebody typed into a description; `dicom-node status` has them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

#: Subject and sentence of each kind of event.
TEXTS: Mapping[str, tuple[str, str]] = {
    "result": ("result ready", "The result of study {study} is ready (job {job})."),
    "refused": (
        "study refused",
        "Study {study}{of_job} was refused, and a person must look at it: `dicom-node status {study}` says why.",
    ),
    "waiting": ("study waited too long", "Study {study} has waited for its other phase in vain."),
    "dead": (
        "delivery given up",
        "Results of job {job} were given up at {about}; `dicom-node retry {job}` sends them again.",
    ),
    "disk": ("disk nearly full", "The disk of the node is nearly full: {about}."),
    "failed": (
        "job failed",
        "Job {job} of study {study} failed; the log has the trace, and `dicom-node retry {job}` runs it again.",
    ),
    "certificate": ("certificate expires", "A certificate of the node needs a new one: {about}."),
}


@dataclass(frozen=True)
class Told:
    """One event of a message.

    Parameters
    ----------
    kind : str
        A key of `TEXTS`.
    at : float
        Time of the event (s since 1970).
    """

    kind: str
    at: float
    study_uid: str = ""
    job_id: int | None = None
    about: str = ""

    @property
    def text(self) -> str:
        """Return its sentence.

        Examples
        --------
        >>> Told("result", 0.0, "1.2.3", 7).text
        'The result of study 1.2.3 is ready (job 7).'
        """
        of_job = "" if self.job_id is None else f" (job {self.job_id})"
        return TEXTS[self.kind][1].format(
            study=self.study_uid, job=self.job_id, of_job=of_job, about=self.about
        )


@dataclass(frozen=True)
class Message:
    """What goes out at one time, the same at each attempt.

    Parameters
    ----------
    id : str
        Identity, by which a receiver knows a message that comes again.
    node : str
        AE title of the node.
    at : float
        Time at which it was put together (s since 1970).
    told : sequence of Told
        At least one.
    """

    id: str
    node: str
    at: float
    told: Sequence[Told]

    @property
    def subject(self) -> str:
        """Return one line.

        Examples
        --------
        >>> one = Told("failed", 0.0, "1.2", 7)
        >>> Message("m", "VQNODE", 0.0, [one]).subject
        'VQNODE: job failed'
        >>> Message("m", "VQNODE", 0.0, [one, one, Told("disk", 0.0)]).subject
        'VQNODE: 2 x job failed, disk nearly full'
        """
        counts = Counter(TEXTS[one.kind][0] for one in self.told)
        return f"{self.node}: " + ", ".join(f"{n} x {s}" if n > 1 else s for s, n in counts.items())

    @property
    def text(self) -> str:
        """Return the whole text, a line an event."""
        lines = [f"{clock(one.at)}  {one.text}" for one in self.told]
        return "\n".join([*lines, "", f"Sent by the node {self.node}. Research use only.", ""])


def clock(at: float) -> str:
    """Return a time as ISO 8601 in UTC.

    Examples
    --------
    >>> clock(0.0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
