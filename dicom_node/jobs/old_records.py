"""Results that older versions made -> the same results without a digest of the patient that has no key."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from ..errors import Rejected, Unavailable
from ..settings.layout import Layout
from ..store.database import Database
from ..store.durable import make_folder, write_file
from ..store.tables import patient_key

LOG = logging.getLogger(__name__)

#: Most results that are looked at in one go.
BATCH = 50


def strip(layout: Layout, database: Database) -> int:
    """Take the digest out of the next older results, from the newest down, and return how many are left.

    Raises
    ------
    Unavailable
        Where the disk or the database is away; it goes on where it was.
    """
    with database.reading() as connection:
        left = int(connection.scalar(sa.select(patient_key.c.records_left)) or 0)
    if not left:
        return 0
    rest = max(0, left - BATCH)
    for number in range(left, rest, -1):
        _strip(layout, number)
    with database.writing() as connection:
        connection.execute(sa.update(patient_key).values(records_left=rest))
    return rest


def _strip(layout: Layout, number: int) -> None:
    # here, because the analysis comes with it, which a node that has no older results does not need
    from ..results.record import NAME, without_patient

    path = layout.results_of(number) / NAME
    try:
        content = path.read_bytes()
        changed = without_patient(content)
    except FileNotFoundError:  # it was removed, or there never was a result
        return
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from error
    except Rejected as error:
        LOG.warning("job %d: %s stays as it is: %s", number, NAME, error)
        return
    if changed != content:
        write_file(path, [changed], make_folder(layout.incoming))
