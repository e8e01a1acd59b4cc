"""The disk and the certificates -> events, once for each state that a person should know of."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

from ..network.tls import day_of, ends
from ..settings.config import Config
from ..store.database import Database
from ..store.events import Event, record

#: Free space from which on the disk counts as nearly full, in parts of that below which nothing is received.
NEARLY_FULL = 2.0
#: Days before its end at which a certificate is told of, once each.
DAYS = (0, 1, 7, 30)


def look(config: Config, database: Database, now: float) -> None:
    """Record a disk that is nearly full, once a day, and certificates that expire soon or have.

    Raises
    ------
    Unavailable
        Where the database cannot be reached.
    """
    found = [*_disk(config, now), *_certificates(config, now)]
    if found:
        with database.writing() as connection:
            for happened, once in found:
                record(connection, happened, once)


def _disk(config: Config, now: float) -> list[tuple[Event, str]]:
    try:
        free = shutil.disk_usage(config.storage).free / 1e6
    except OSError:
        return []
    low = config.receive.min_free_mb
    if free >= NEARLY_FULL * low:
        return []
    about = f"{free:.0f} MB left, below {low} MB nothing is received"
    day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
    return [(Event(now, "disk", about=about, text=about), f"disk {day}")]


def _certificates(config: Config, now: float) -> list[tuple[Event, str]]:
    found = []
    for table, settings in config.certificates.items():
        for what, when in ends(settings).items():
            left = (when - now) / 86400
            step = next((days for days in DAYS if left < days), None)
            if step is not None:
                about = (
                    f"the {what} of {table} {'has expired on' if left < 0 else 'expires on'} {day_of(when)}"
                )
                once = f"certificate {table} {what} {when:.0f} {step}"
                found.append((Event(now, "certificate", about=about, text=about), once))
    return found
