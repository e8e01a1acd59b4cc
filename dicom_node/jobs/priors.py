"""Results the node has made -> what it knows of a patient's earlier dates, for the report's trend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime

import sqlalchemy as sa

from analysis.figures.trend import Visit

from ..store.database import Database
from ..store.tables import job, outcome
from ..strict_json import build, encode


def keep(
    database: Database,
    connection: sa.Connection,
    job_id: int,
    patient: str,
    acquired: str,
    version: str,
    measures: Mapping[str, float],
) -> None:
    """Remember the numbers of a result; they outlive its images and files.

    Parameters
    ----------
    patient : str
        As `objects.case.Case.patient`: no name, no ID. Nothing is kept for "".
    acquired : str
        "YYYYMMDD…"; nothing is kept without a date.
    version : str
        Of the software.
    measures : mapping of str to float
        Of both lungs.
    """
    if not patient or _day(acquired) is None:
        return
    values = {"job_id": job_id, "patient": patient, "acquired": acquired[:8], "version": version}
    insert = database.insert(outcome).values(measures=encode(measures), **values)
    connection.execute(insert.on_conflict_do_nothing(index_elements=["job_id"]))


def earlier(database: Database, job_id: int, patient: str, acquired: str, version: str) -> tuple[Visit, ...]:
    """A patient's earlier dates as they were known when a job was created, so that a retry finds the same.

    Of a study analysed several times, the last result. A result of the same day as the job's counts too, but not one of
    its own study.
    """
    if not patient or _day(acquired) is None:
        return ()
    own = sa.select(job.c.created, job.c.study_uid, job.c.parameters).where(job.c.id == job_id)
    with database.reading() as connection:
        mine = connection.execute(own).one()
        known = (
            sa.select(job.c.study_uid, job.c.parameters, outcome)
            .join(job, job.c.id == outcome.c.job_id)
            .where(
                outcome.c.patient == patient,
                outcome.c.acquired <= acquired[:8],
                job.c.study_uid != mine.study_uid,
                job.c.since <= mine.created,
            )
            .order_by(outcome.c.acquired, job.c.revision)
        )
        last = {row.study_uid: row for row in connection.execute(known)}
    visits = [
        Visit(
            datetime.strptime(row.acquired, "%Y%m%d").date(),
            build(Mapping[str, float], json.loads(row.measures)),
            row.version == version and row.parameters == mine.parameters,
        )
        for row in last.values()
    ]
    return tuple(sorted(visits, key=lambda visit: visit.day))


def trend(
    database: Database, job_id: int, patient: str, acquired: str, version: str, measures: Mapping[str, float]
) -> tuple[Visit, ...]:
    """The earlier dates and this one; nothing where there is no earlier one."""
    before = earlier(database, job_id, patient, acquired, version)
    today = _day(acquired)
    return (*before, Visit(today, measures)) if before and today else ()


def _day(acquired: str) -> date | None:
    try:
        return datetime.strptime(acquired[:8], "%Y%m%d").date()
    except ValueError:
        return None
