"""The outcomes of one round of sending -> a few lines in the log, and the events of the jobs that have arrived."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

import sqlalchemy as sa

from ..settings.destinations import Destination
from ..store.database import Database
from ..store.events import Event, record
from ..store.tables import delivery, job, result
from ..troubles import Troubles
from .outcome import Outcome, Parcel, Verdict

LOG = logging.getLogger(__name__)

#: What each verdict is called where outcomes are counted.
OUTCOMES: Mapping[Verdict, str] = {"sent": "sent", "later": "retried", "never": "dead"}


class Round:
    """What became of the objects of one round at one destination, for a few lines in the log."""

    def __init__(self, destination: Destination, troubles: Troubles) -> None:
        self._destination, self.troubles = destination, troubles
        self._counts: dict[int, Counter[str]] = {}
        self._why: dict[int, str] = {}

    def add(self, parcel: Parcel, outcome: Outcome) -> None:
        """Take note of an outcome."""
        self._counts.setdefault(parcel.job_id, Counter())[outcome.verdict] += 1
        if outcome.verdict == "later":
            self.troubles.again(outcome.reason)
        elif outcome.verdict == "never":
            self._why[parcel.job_id] = outcome.reason

    def tell(self, database: Database, now: float) -> None:
        """Say which jobs have everything at the destination now, what was given up, and whether a trouble is over."""
        name = self._destination.name
        total = sum(self._counts.values(), Counter[str]())
        if total["sent"] and not total["later"]:
            self.troubles.over()
        for job_id, counts in self._counts.items():
            if counts["never"]:
                why = self._why[job_id]
                LOG.error("job %d: %d objects given up at %s: %s", job_id, counts["never"], name, why)
            if counts["sent"] and (sent := arrived(database, job_id, name, now)):
                LOG.info("job %d: %d objects sent to %s", job_id, sent, name)


def arrived(database: Database, job_id: int, destination: str, now: float) -> int:
    """Return how many objects of a job a destination took, where none waits any more, and record that; else 0."""
    mine = delivery.c.sop_instance_uid.in_(
        sa.select(result.c.sop_instance_uid).where(result.c.job_id == job_id)
    )
    here = mine, delivery.c.destination == destination
    counts = sa.select(delivery.c.state, sa.func.count()).where(*here)
    with database.reading() as connection:
        found = {row[0]: row[1] for row in connection.execute(counts.group_by(delivery.c.state))}
        study_uid = connection.scalar(sa.select(job.c.study_uid).where(job.c.id == job_id))
    sent: int = found.get("SENT", 0) + found.get("CONFIRMED", 0)
    if "QUEUED" in found or not sent:
        return 0
    text = f"job {job_id}: {sent} objects sent to {destination}"
    with database.writing() as connection:
        record(connection, Event(now, "delivered", study_uid or "", job_id, destination, text))
    return sent


def give_up(
    connection: sa.Connection, destination: str, job_id: int, created: float, reason: str, now: float
) -> None:
    """Record that objects of a job were given up at a destination; once for all that were queued together."""
    study_uid = connection.scalar(sa.select(job.c.study_uid).where(job.c.id == job_id)) or ""
    text = f"job {job_id}: given up at {destination}: {reason}"
    happened = Event(now, "dead", study_uid, job_id, destination, text)
    record(connection, happened, f"dead {job_id} {created:.0f} {destination}")
