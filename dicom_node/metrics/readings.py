"""Every metric of the node: its name, what it means, its labels, and how it is read.

Counters are rows of `tally`, which are written in the transaction of what they count. Gauges are counted in the
database, by indexes only: a scrape must be quick with a hundred thousand studies. Labels are states and names of the
configuration, never a UID, a patient, or what a stranger calls himself.
"""

from __future__ import annotations

import enum
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import sqlalchemy as sa

from ..jobs.queue import JobState
from ..network.tls import ends
from ..settings.config import Config
from ..store.heartbeat import Pulse
from ..store.tables import (
    UNINDEXED,
    UNREADABLE,
    audit_spool,
    commitment,
    delivery,
    instance,
    job,
    notification,
    study,
)
from ..studies.queue import StudyState

Value = float | tuple[float, float]
Rows = list[tuple[Sequence[str], Value]]


class Source(enum.Enum):
    """Where a metric comes from."""

    NODE, DATABASE = "node", "database"


@dataclass(frozen=True)
class Scrape:
    """What a metric is read from; the numbers of one scrape are of one moment."""

    config: Config
    pulse: Pulse | None
    now: float
    connection: sa.Connection = field(default=None, repr=False)  # type: ignore[assignment]
    tally: Mapping[str, Mapping[tuple[str, str], float]] = field(default_factory=dict)

    def count(self, where: Any, of: sa.Table) -> float:
        """Return the number of rows that fulfil a condition."""
        return float(self.connection.scalar(sa.select(sa.func.count()).select_from(of).where(where)) or 0)

    def states(self, column: Any, states: Iterable[str]) -> Rows:
        """Return how many rows there are in each state, 0 included."""
        query = sa.select(column, sa.func.count()).group_by(column)
        found = {row[0]: row[1] for row in self.connection.execute(query)}
        return [((state,), float(found.get(state, 0))) for state in states]

    def oldest(self, column: Any, *where: Any) -> float | None:
        """Return the least value of a column (s since 1970); None where no row fulfils the conditions."""
        return self.connection.scalar(sa.select(sa.func.min(column)).where(*where))


@dataclass(frozen=True)
class Row:
    """One metric.

    Parameters
    ----------
    name : str
        By the conventions of Prometheus, base units, without the ending that its kind adds (``_total``).
    read : callable
        Scrape -> rows of (values of the labels, value); for a summary the value is (count, sum).
    """

    name: str
    kind: Literal["gauge", "counter", "summary"]
    help: str
    labels: tuple[str, ...]
    read: Callable[[Scrape], Rows]
    source: Source = Source.DATABASE

    @property
    def shown(self) -> str:
        """Return the name under which it is scraped."""
        return self.name + ("_total" if self.kind == "counter" else "")


def _one(value: float | None) -> Rows:
    return [] if value is None else [((), float(value))]


def _counted(name: str, *labels: Literal["of", "outcome"]) -> Callable[[Scrape], Rows]:
    """Return a reader of one name of the tally; a label that is not asked for is summed over."""

    def read(scrape: Scrape) -> Rows:
        sums: dict[tuple[str, ...], float] = {}
        for (of, outcome), value in scrape.tally.get(name, {}).items():
            key = tuple({"of": of, "outcome": outcome}[label] for label in labels)
            sums[key] = sums.get(key, 0.0) + value
        if not labels:
            sums.setdefault((), 0.0)
        return list(sorted(sums.items()))

    return read


def _ended(scrape: Scrape) -> Rows:
    found = scrape.tally.get("associations", {})
    return [(key, value) for key, value in sorted(found.items()) if key[1] != "refused"]


def _refused(scrape: Scrape) -> Rows:
    found = scrape.tally.get("associations", {})
    return _one(sum(value for (_, how), value in found.items() if how == "refused"))


def _durations(scrape: Scrape) -> Rows:
    done = scrape.tally.get("jobs", {}).get(("", "DONE"), 0.0)
    return [((), (done, scrape.tally.get("job seconds", {}).get(("", ""), 0.0)))]


def _deliveries(scrape: Scrape) -> Rows:
    """Count by (destination, state), each with the index on both; all deliveries ever are too many to count."""
    return [
        (
            (d.name, state),
            scrape.count(sa.and_(delivery.c.destination == d.name, delivery.c.state == state), delivery),
        )
        for d in scrape.config.destinations
        for state in ("QUEUED", "DEAD")
    ]


def _oldest_queued(scrape: Scrape) -> Rows:
    rows: Rows = []
    for d in scrape.config.destinations:
        waiting = delivery.c.destination == d.name, delivery.c.state == "QUEUED"
        first = sa.select(sa.func.min(delivery.c.id)).where(*waiting).scalar_subquery()
        if (created := scrape.oldest(delivery.c.created, delivery.c.id == first)) is not None:
            rows.append(((d.name,), created))
    return rows


def _notifications(scrape: Scrape) -> Rows:
    return [
        (
            (c.name, state),
            scrape.count(
                sa.and_(notification.c.channel == c.name, notification.c.state == state), notification
            ),
        )
        for c in scrape.config.notify
        for state in ("QUEUED", "DEAD")
    ]


def _commitments(scrape: Scrape) -> Rows:
    return [((state,), scrape.count(commitment.c.state == state, commitment)) for state in ("QUEUED", "DEAD")]


def _spool(scrape: Scrape) -> Rows:
    """Messages leave in the order in which they came: the first and the last number say how many there are."""
    first, last = (  # two queries: SQLite reads the whole table for a minimum and a maximum at once
        scrape.connection.scalar(sa.select(end(audit_spool.c.id))) for end in (sa.func.min, sa.func.max)
    )
    return _one(0.0 if first is None else last - first + 1)


def _certificates(scrape: Scrape) -> Rows:
    return [
        ((name, what), when)
        for name, settings in scrape.config.certificates.items()
        for what, when in sorted(ends(settings).items())
    ]


def _pulse(read: Callable[[Pulse], float]) -> Callable[[Scrape], Rows]:
    return lambda scrape: [] if scrape.pulse is None else _one(read(scrape.pulse))


def _info(scrape: Scrape) -> Rows:
    return [] if scrape.pulse is None else [((scrape.pulse.version,), 1.0)]


NODE = Source.NODE
#: Every metric, in the order of the page. `docs/metrics.md` says the same; a test holds both together.
METRICS: tuple[Row, ...] = (
    Row("dicom_node_info", "gauge", "Version of the software that runs.", ("version",), _info, NODE),
    Row(
        *("dicom_node_up", "gauge", "1 while the node's ticks run, 0 once they stand still.", ()),
        lambda s: _one(float(s.pulse is not None and not s.pulse.stands_still(s.now))),
        NODE,
    ),
    Row(
        *("dicom_node_start_time_seconds", "gauge", "Time at which the node started, since 1970.", ()),
        _pulse(lambda pulse: pulse.started),
        NODE,
    ),
    Row(
        *("dicom_node_acceptors", "gauge", "Processes that accept connections now.", ()),
        _pulse(lambda pulse: float(pulse.accepting)),
        NODE,
    ),
    Row(
        *("dicom_node_acceptors_wanted", "gauge", "Processes that should accept connections.", ()),
        lambda s: _one(s.config.receive.acceptors),
        NODE,
    ),
    Row(
        *("dicom_node_disk_free_bytes", "gauge", "Free space on the disk of the storage.", ()),
        lambda s: _one(shutil.disk_usage(s.config.storage).free),
        NODE,
    ),
    Row(
        *("dicom_node_disk_size_bytes", "gauge", "Size of the disk of the storage.", ()),
        lambda s: _one(shutil.disk_usage(s.config.storage).total),
        NODE,
    ),
    Row(
        *("dicom_node_disk_low_bytes", "gauge", "Free space below which nothing is received.", ()),
        lambda s: _one(s.config.receive.min_free_mb * 1e6),
        NODE,
    ),
    Row(
        "dicom_node_certificate_expiry_timestamp_seconds",
        "gauge",
        "Time at which the first certificate, or revocation list, of a table of the configuration expires, since 1970.",
        ("table", "what"),
        _certificates,
        NODE,
    ),
    Row("dicom_node_database_up", "gauge", "1 where the database answers.", (), lambda s: _one(1.0)),
    Row(
        "dicom_node_associations",
        "counter",
        "Associations of senders that ended, by AE title of the configuration and how they ended.",
        ("peer", "outcome"),
        _ended,
    ),
    Row(
        *("dicom_node_connections_refused", "counter", "Connections and requests that were refused.", ()),
        _refused,
    ),
    Row(
        "dicom_node_instances_received",
        "counter",
        "Instances received, counted when their header is read, by sender and whether it could be read.",
        ("peer", "outcome"),
        _counted("instances", "of", "outcome"),
    ),
    Row(
        *("dicom_node_received_bytes", "counter", "Size of the data sets received.", ("peer",)),
        _counted("bytes", "of"),
    ),
    Row(
        "dicom_node_instances_quarantined",
        "counter",
        "Instances that came with other content under a UID that was stored already.",
        (),
        _counted("quarantined"),
    ),
    Row(
        *("dicom_node_instances_to_be_read", "gauge", "Instances whose header is not read yet.", ()),
        lambda s: _one(s.count(UNINDEXED, instance)),
    ),
    Row(
        *("dicom_node_instances_unreadable", "gauge", "Instances kept that cannot be read.", ()),
        lambda s: _one(s.count(UNREADABLE, instance)),
    ),
    Row(
        *("dicom_node_studies", "gauge", "Studies in each state.", ("state",)),
        lambda s: s.states(study.c.state, get_args(StudyState)),
    ),
    Row(
        "dicom_node_study_oldest_waiting_timestamp_seconds",
        "gauge",
        "Time since which the study that waits longest has waited for its other phase, since 1970; absent for none.",
        (),
        lambda s: _one(s.oldest(study.c.since, study.c.state == "WAITING")),
    ),
    Row(
        *(
            "dicom_node_studies_decided",
            "counter",
            "Decisions on studies, by the state they led to.",
            ("state",),
        ),
        _counted("studies", "outcome"),
    ),
    Row(
        *("dicom_node_jobs", "gauge", "Jobs in each state.", ("state",)),
        lambda s: s.states(job.c.state, get_args(JobState)),
    ),
    Row(
        "dicom_node_job_oldest_ready_timestamp_seconds",
        "gauge",
        "Time at which the job that is READY longest was made, since 1970; absent for none.",
        (),
        lambda s: _one(s.oldest(job.c.created, job.c.state == "READY")),
    ),
    Row(
        *("dicom_node_jobs_ended", "counter", "Jobs that ended, by the state they ended in.", ("state",)),
        _counted("jobs", "outcome"),
    ),
    Row(
        *("dicom_node_job_crashes", "counter", "Processes of jobs that ended without a verdict.", ()),
        _counted("job crashes"),
    ),
    Row(
        *("dicom_node_job_duration_seconds", "summary", "Time that jobs which are DONE were RUNNING.", ()),
        _durations,
    ),
    Row(
        *("dicom_node_workers", "gauge", "Jobs that may run at one time.", ()),
        lambda s: _one(s.config.jobs.concurrency),
        NODE,
    ),
    Row(
        "dicom_node_deliveries",
        "gauge",
        "Objects that wait for a destination, or were given up.",
        ("destination", "state"),
        _deliveries,
    ),
    Row(
        "dicom_node_delivery_oldest_queued_timestamp_seconds",
        "gauge",
        "Time at which the object that waits longest for a destination was queued, since 1970; absent for none.",
        ("destination",),
        _oldest_queued,
    ),
    Row(
        "dicom_node_delivery_attempts",
        "counter",
        "Outcomes of sending objects: sent, retried, dead; and confirmed by storage commitment.",
        ("destination", "outcome"),
        _counted("deliveries", "of", "outcome"),
    ),
    Row(
        *("dicom_node_commitments", "gauge", "Reports of storage commitment owed, or given up.", ("state",)),
        _commitments,
    ),
    Row(
        *("dicom_node_audit_messages_waiting", "gauge", "Audit messages that no repository took yet.", ()),
        _spool,
    ),
    Row(
        *(
            "dicom_node_notifications",
            "gauge",
            "Notifications that wait, or were given up.",
            ("channel", "state"),
        ),
        _notifications,
    ),
    Row(
        "dicom_node_notification_attempts",
        "counter",
        "Outcomes of sending messages: sent, retried, dead.",
        ("channel", "outcome"),
        _counted("notifications", "of", "outcome"),
    ),
)
