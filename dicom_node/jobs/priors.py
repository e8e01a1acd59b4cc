"""Results that the node has made -> a patient's earlier visits, for the trend in the report."""

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
    """Record the measures of a result, which stay when its images and files are removed.

    Parameters
    ----------
    patient : str
        Keyed digest of the patient (`results.context.Case.patient`). Nothing is recorded for "".
    acquired : str
        Acquisition date, "YYYYMMDD…"; nothing is recorded without one.
    version : str
        Version of the software.
    measures : mapping of str to float
        Measures of both lungs together.
    """
    if not patient or _day(acquired) is None:
        return
    values = {"job_id": job_id, "patient": patient, "acquired": acquired[:8], "version": version}
    insert = database.insert(outcome).values(measures=encode(measures), **values)
    connection.execute(insert.on_conflict_do_nothing(index_elements=["job_id"]))


def earlier(database: Database, job_id: int, patient: str, acquired: str, version: str) -> tuple[Visit, ...]:
    """Return a patient's earlier visits as known when the job was created, so that a retry finds the same ones.

    A study that was analysed several times counts with its last result. Results of the same day count too, but not
    those of the job's own study.
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
    """Return the earlier visits and this one; nothing where there is no earlier one."""
    before = earlier(database, job_id, patient, acquired, version)
    today = _day(acquired)
    return (*before, Visit(today, measures)) if before and today else ()


def _day(acquired: str) -> date | None:
    try:
        return datetime.strptime(acquired[:8], "%Y%m%d").date()
    except ValueError:
        return None
