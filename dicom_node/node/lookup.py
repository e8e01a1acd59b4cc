"""What a person types -> the study or series that is meant: a UID, its end, an accession number or a patient ID."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from ..errors import Rejected, Unavailable
from ..model import digest_of
from ..settings.layout import Layout
from ..store.database import Database
from ..store.keys import keyed, patients_key
from ..store.tables import instance, study, study_key

#: Least length of the end of a UID that stands for it (characters).
SHORTEST = 4
NO_STUDY = "there is no such study: a UID or its end, an accession number or a patient ID names one"
#: Most matches that a message names.
NAMED = 5


def find_studies(database: Database, layout: Layout, text: str) -> list[str]:
    """Return the studies that a text names, the newest first.

    Parameters
    ----------
    text : str
        A Study Instance UID, its end as `dicom-node status` shows it ("…12345678"), an Accession Number, or a
        Patient ID. The last two are looked up by digests with the node's key, which lies in the storage.

    Raises
    ------
    Rejected
        Where there is none.
    Unavailable
        Where no UID is named so, and the node's key cannot be read.
    """
    away: list[Unavailable] = []

    def named() -> Any:
        try:
            digest = keyed(patients_key(layout), digest_of(text))
        except Unavailable as error:  # a UID is found all the same, by its end too
            away.append(error)
            return sa.false()
        return study.c.study_uid.in_(sa.select(study_key.c.study_uid).where(study_key.c.digest == digest))

    found = _first(database, study.c.study_uid, text, named, study.c.received_at.desc())
    if not found:
        raise away[0] if away else Rejected(NO_STUDY)
    return found


def find_study(database: Database, layout: Layout, text: str) -> str:
    """Return the one study that a text names.

    Raises
    ------
    Rejected
        Where there is none, or there are several.
    """
    return _one(find_studies(database, layout, text), "studies")


def find_series(database: Database, text: str) -> str:
    """Return the one series that a Series Instance UID, or its end, names.

    Raises
    ------
    Rejected
        Where there is none, or there are several.
    """
    found = _first(database, instance.c.series_uid, text, sa.false, instance.c.series_uid)
    if not found:
        raise Rejected("there is no such series: its UID, or the end of its UID, names one")
    return _one(found, "series")


def handles(uids: list[str]) -> dict[str, str]:
    """Return a short name of each UID: its end, as long as needed to tell it from the others.

    Examples
    --------
    >>> handles(["1.2.111111115", "1.2.211111115", "1.7"])
    {'1.2.111111115': '…111111115', '1.2.211111115': '…211111115', '1.7': '1.7'}
    """
    for length in range(8, 65):
        if len({uid[-length:] for uid in uids}) == len(set(uids)):
            break
    return {uid: uid if len(uid) <= length + 1 else "…" + uid[-length:] for uid in uids}


def _first(database: Database, column: Any, text: str, by_key: Callable[[], Any], order: Any) -> list[str]:
    """Return the values of a column that a text names: in full, else by a key, else by their end."""
    end = text.strip().removeprefix("…").removeprefix("...")
    plain = end.replace("\\", "").replace("%", "").replace("_", "")
    conditions: list[Callable[[], Any]] = [lambda: column == end, by_key]
    if len(plain) >= SHORTEST and plain == end:
        conditions.append(lambda: column.like(f"%{end}"))
    for condition in conditions:
        with database.reading() as connection:
            found = list(connection.scalars(sa.select(column).where(condition()).order_by(order)))
        if found:
            return list(dict.fromkeys(str(uid) for uid in found))
    return []


def _one(found: list[str], what: str) -> str:
    if len(found) > 1:
        named = ", ".join(found[:NAMED]) + (", …" if len(found) > NAMED else "")
        raise Rejected(f"that names {len(found)} {what}: {named}")
    return found[0]
