"""What happened -> numbers that only grow, written in the transaction of what they count; `/metrics` shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import sqlalchemy as sa

from .database import insert_into
from .tables import tally

#: What is counted. "instances" and "bytes" count what was received and read, "job seconds" the time of finished jobs.
Name = Literal[
    "instances",
    "bytes",
    "quarantined",
    "associations",
    "studies",
    "jobs",
    "job seconds",
    "job crashes",
    "deliveries",
    "notifications",
]
#: The name under which everybody is counted whom the configuration does not name, so that strangers make no rows.
OTHER = "other"


def add(
    connection: sa.Connection, name: Name, amount: float = 1.0, *, of: str = "", outcome: str = ""
) -> None:
    """Add to a number in the caller's transaction.

    Parameters
    ----------
    of : str
        A name of the configuration, or `OTHER`; never a UID, a patient, or what a stranger calls himself.
    outcome : str
        How it ended, e.g. a state.
    """
    if not amount:
        return
    insert = insert_into(connection.dialect.name, tally).values(
        name=name, of=of, outcome=outcome, value=amount
    )
    more = {"value": tally.c.value + insert.excluded.value}
    connection.execute(insert.on_conflict_do_update(index_elements=["name", "of", "outcome"], set_=more))


def add_all(connection: sa.Connection, name: Name, amounts: Mapping[tuple[str, str], float]) -> None:
    """Add to several numbers of one name, by (of, outcome), in an order that no two transactions take crosswise."""
    for of, outcome in sorted(amounts):
        add(connection, name, amounts[of, outcome], of=of, outcome=outcome)


def read(connection: sa.Connection) -> dict[str, dict[tuple[str, str], float]]:
    """Return every number by name, then by (of, outcome)."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for row in connection.execute(sa.select(tally)):
        found.setdefault(row.name, {})[row.of, row.outcome] = row.value
    return found


def known(name: str, names: Iterable[str]) -> str:
    """Return a name where the configuration has it, else `OTHER`."""
    return name if name in names else OTHER
