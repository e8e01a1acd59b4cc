"""What happened -> the timeline of a study, and the events that notifications are made from.

An event is written in the transaction of what it tells, so that neither is there without the other. Texts hold no
patient data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from .database import insert_into
from .tables import event

#: The kinds of event. The first seven are those of which `[[notify]]` may tell (`settings.notify.EVENTS`).
Kind = Literal[
    "result",
    "refused",
    "waiting",
    "dead",
    "disk",
    "failed",
    "certificate",
    "decided",
    "started",
    "stage",
    "job",
    "delivered",
    "confirmed",
    "operated",
    "removed",
]


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Parameters
    ----------
    at : float
        Time (s since 1970).
    kind : str
        One of `Kind`.
    study_uid : str
        Study that it concerns; "" for none.
    job_id : int or None
        Job that it concerns.
    about : str
        What else it concerns, by its name: a destination, a certificate, the stage of a job.
    text : str
        One sentence for the timeline, e.g. the reason of a decision.
    """

    at: float
    kind: str
    study_uid: str = ""
    job_id: int | None = None
    about: str = ""
    text: str = ""


def record(connection: sa.Connection, happened: Event, once: str | None = None) -> None:
    """Record an event in the caller's transaction.

    Parameters
    ----------
    once : str, optional
        Where an event of this key is there already, nothing is recorded: a hundred objects of one job that are given
        up are one event.
    """
    values = {
        "at": happened.at,
        "kind": happened.kind,
        "study_uid": happened.study_uid,
        "job_id": happened.job_id,
        "about": happened.about,
        "text": happened.text,
        "once": once,
    }
    insert = insert_into(connection.dialect.name, event).values(**values)
    connection.execute(insert.on_conflict_do_nothing(index_elements=["once"]))


def timeline(connection: sa.Connection, study_uid: str) -> list[Event]:
    """Return what happened to a study, the oldest first."""
    query = sa.select(event).where(event.c.study_uid == study_uid).order_by(event.c.at, event.c.id)
    return [
        Event(row.at, row.kind, row.study_uid, row.job_id, row.about, row.text)
        for row in connection.execute(query)
    ]
