"""The machine and the node: disk, rates, what could not be read, certificates, version, configuration."""

from __future__ import annotations

import dataclasses
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..network.tls import dated
from ..settings.config import Config
from ..store.tables import instance, job, quarantine, study
from .site import Ask, Site

HOUR, DAY = 3600.0, 86400.0
ROWS = 50
#: Parts of a key's name that mean a secret; its value is not shown.
SECRET = ("password", "secret", "token", "key", "authorization")


@dataclass(frozen=True)
class Rate:
    """How much happened in one hour or day that begins at a time (s since 1970)."""

    at: float
    studies: int
    jobs: int


@dataclass(frozen=True)
class Problem:
    """An instance that is in quarantine or cannot be read."""

    sop_instance_uid: str
    received_at: float
    calling_ae: str
    reason: str


@dataclass(frozen=True)
class Certificate:
    """A certificate or revocation list of a table of the configuration.

    Parameters
    ----------
    file : str
        Name of the file that holds it.
    expires : float
        Time (s since 1970).
    days : float
        How many are left; negative where it has expired.
    """

    table: str
    what: str
    file: str
    expires: float
    days: float


@dataclass(frozen=True)
class Setting:
    """One key of the configuration."""

    key: str
    value: str


@dataclass(frozen=True)
class System:
    """The state of the machine and the node."""

    version: str
    ae_title: str
    disk_total: float
    disk_free: float
    disk_needed: float
    workers: int
    running: int
    waiting: int
    to_be_read: int
    day: tuple[Rate, ...]
    week: tuple[Rate, ...]
    quarantined: tuple[Problem, ...]
    unreadable: tuple[Problem, ...]
    certificates: tuple[Certificate, ...]
    settings: tuple[Setting, ...]


def system(site: Site, ask: Ask) -> System:
    """Return the state of the node; configuration and certificates for the role admin only."""
    now, config, admin = time.time(), site.config, ask.user.may("admin")
    disk = shutil.disk_usage(config.storage)
    with site.database.reading() as connection:
        going_on = sa.select(job.c.state, sa.func.count()).where(job.c.state.in_(("RUNNING", "READY")))
        states = {name: n for name, n in connection.execute(going_on.group_by(job.c.state))}
        unread = sa.and_(instance.c.header.is_(None), instance.c.problem.is_(None))
        return System(
            version("vq-dicom-node"),
            config.receive.ae_title,
            *(float(disk.total), float(disk.free), config.receive.min_free_mb * 1e6),
            *(config.jobs.concurrency, states.get("RUNNING", 0), states.get("READY", 0)),
            connection.scalar(sa.select(sa.func.count()).select_from(instance).where(unread)) or 0,
            _rates(connection, now, HOUR, 24),
            _rates(connection, now, DAY, 7),
            _quarantined(connection),
            _unreadable(connection),
            tuple(_certificates(config, now)) if admin else (),
            tuple(_settings(config, "")) if admin else (),
        )


def _rates(connection: sa.Connection, now: float, step: float, count: int) -> tuple[Rate, ...]:
    """Return the rates of the last steps, the oldest first; each is a range of an index."""
    begin = now - now % step - (count - 1) * step
    came = _by_step(connection, study.c.received_at, begin, step)
    made = _by_step(connection, job.c.created, begin, step, job.c.state == "DONE")
    return tuple(Rate(begin + n * step, came.get(n, 0), made.get(n, 0)) for n in range(count))


def _by_step(
    connection: sa.Connection, column: Any, begin: float, step: float, *where: sa.ColumnElement[bool]
) -> dict[int, int]:
    number = sa.cast((column - begin) / step, sa.Integer)
    query = sa.select(number, sa.func.count()).where(column >= begin, *where).group_by(number)
    return {int(n): count for n, count in connection.execute(query)}


def _quarantined(connection: sa.Connection) -> tuple[Problem, ...]:
    columns = quarantine.c.sop_instance_uid, quarantine.c.received_at, quarantine.c.calling_ae
    query = sa.select(*columns).order_by(quarantine.c.id.desc()).limit(ROWS)
    reason = "other content under the UID of a stored image"
    return tuple(Problem(*row, reason) for row in connection.execute(query))


def _unreadable(connection: sa.Connection) -> tuple[Problem, ...]:
    columns = instance.c.sop_instance_uid, instance.c.received_at, instance.c.calling_ae, instance.c.problem
    query = sa.select(*columns).where(instance.c.problem.is_not(None))
    return tuple(
        Problem(*row) for row in connection.execute(query.order_by(instance.c.received_at.desc()).limit(ROWS))
    )


def _certificates(config: Config, now: float) -> list[Certificate]:
    """Return every certificate and revocation list of the settings, that of the page too, the first to expire first."""
    found = [
        Certificate(table, what, path.name, when, (when - now) / DAY)
        for table, files in config.certificates.items()
        for path, what, when in dated(files)
    ]
    return sorted(found, key=lambda one: one.expires)


def _settings(value: Any, name: str) -> list[Setting]:
    """Return the settings as keys and values; what is secret is not among them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    elif isinstance(value, tuple) and any(dataclasses.is_dataclass(one) for one in value):
        parts = {f"{n}": one for n, one in enumerate(value, 1)}
    else:
        return [Setting(name, _shown(name.rpartition(".")[2], value))]
    return [found for key, part in parts.items() for found in _settings(part, f"{name}.{key}".strip("."))]


def _shown(key: str, value: Any) -> str:
    """Return a value as text; a password in a URL, and whatever is called a secret, is hidden."""
    if value and not isinstance(value, Path) and any(part in key for part in SECRET):
        return "(hidden)"
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)
    scheme, found, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    if found and "@" in authority:
        user, _, host = authority.rpartition("@")
        return f"{scheme}://{user.partition(':')[0]}:(hidden)@{host}{slash}{path.partition('?')[0]}"
    return text
