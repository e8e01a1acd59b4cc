"""A database of an older version -> the same one with keyed digests of patients, and what its JSON texts alone say."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from ..errors import Rejected
from ..model import Person
from ..settings.layout import Layout
from ..strict_json import encode
from .database import Database
from .keys import keyed, make_key
from .tables import instance, job, outcome, patient_key

LOG = logging.getLogger(__name__)

#: Rows that are read and written at one time.
BATCH = 500
#: What a key is known by: its digest of this word stands in the database.
MARK = "vq-dicom-node patients"
PERSON = {field.name for field in fields(Person)}


def protect(layout: Layout, database: Database) -> bytes:
    """Return the key of the digests of patients; at the first start it is made, and digests without a key get it.

    Raises
    ------
    Rejected
        Where the database's digests were made with another key, or the key is missing.
    Unavailable
        Where the disk or the database is away; nothing has changed then.
    """
    with database.reading() as connection:
        mark = connection.scalar(sa.select(patient_key.c.mark))
    if mark is not None and not layout.patients_key.exists():
        raise Rejected(f"{layout.patients_key} is missing: restore it from the backup of the storage")
    key = make_key(layout, layout.patients_key)
    if mark is None:
        with database.writing() as connection:
            count = sum(_key_rows(connection, column, key) for column in (instance.c.header, job.c.pair))
            _key_outcomes(connection, key)
            _fill_other_studies(connection)
            results = connection.scalar(sa.select(sa.func.max(job.c.id))) or 0
            row = {"mark": keyed(key, MARK), "records_left": results}
            connection.execute(database.insert(patient_key).values(**row).on_conflict_do_nothing())
        if count:
            LOG.info("the digests of patients in %d rows are keyed now", count)
    elif mark != keyed(key, MARK):
        raise Rejected(f"{layout.patients_key} is not the key of this database: restore it from its backup")
    return key


def _key_rows(connection: sa.Connection, column: sa.Column[Any], key: bytes) -> int:
    """Key the digests in every JSON text of a column and return how many texts changed."""
    (identity,) = column.table.primary_key.columns
    update = (
        sa.update(column.table)
        .where(identity == sa.bindparam("row"))
        .values({column.name: sa.bindparam("text")})
    )
    count = 0
    for rows in _batches(connection, identity, column):
        changed = [{"row": row, "text": encode(_with_key(json.loads(text), key))} for row, text in rows]
        connection.execute(update, changed)
        count += len(changed)
    return count


def _batches(
    connection: sa.Connection, identity: sa.Column[Any], column: sa.Column[Any]
) -> Iterator[list[tuple[Any, str]]]:
    last = None
    while True:
        query = sa.select(identity, column).where(column.is_not(None), column != "").order_by(identity)
        query = query if last is None else query.where(identity > last)
        rows = [(row[0], row[1]) for row in connection.execute(query.limit(BATCH))]
        if not rows:
            return
        yield rows
        last = rows[-1][0]


def _with_key(value: Any, key: bytes) -> Any:
    """Return a JSON value in which every `Person` is keyed."""
    if isinstance(value, dict):
        if set(value) == PERSON:
            return {name: keyed(key, digest) for name, digest in value.items()}
        return {name: _with_key(one, key) for name, one in value.items()}
    return [_with_key(one, key) for one in value] if isinstance(value, list) else value


def _fill_other_studies(connection: sa.Connection) -> None:
    """Write into the rows of jobs which other study their pair has, which older versions kept in the pair alone."""
    for rows in _batches(connection, job.c.id, job.c.pair):
        for number, text in rows:
            pair = json.loads(text)
            one, other = (pair[phase]["study_instance_uid"] for phase in ("expiratory", "inspiratory"))
            if one != other:
                mine = job.c.id == number
                connection.execute(sa.update(job).where(mine).values(other_study_uid=other))


def _key_outcomes(connection: sa.Connection, key: bytes) -> None:
    for digest in connection.scalars(sa.select(outcome.c.patient).distinct()).all():
        same = outcome.c.patient == digest
        connection.execute(sa.update(outcome).where(same).values(patient=keyed(key, digest)))
