"""The database at the moment of a scrape -> the metric families of Prometheus, a row of `METRICS` each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from ..errors import Unavailable
from ..settings.config import Config
from ..store import tally
from ..store.database import Database
from ..store.heartbeat import Pulse
from .readings import METRICS, Row, Rows, Scrape, Source

LOG = logging.getLogger(__name__)

FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "summary": SummaryMetricFamily}


class NodeCollector(Collector):
    """Reads everything anew at each scrape; nothing is counted in memory.

    Parameters
    ----------
    config : Config
    database : Database
    pulse : callable
        Returns the last pulse of the node, or None.
    """

    def __init__(self, config: Config, database: Database, pulse: Callable[[], Pulse | None]) -> None:
        self._config, self._database, self._pulse = config, database, pulse

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering reads no database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every family; where the database cannot be reached, those that need none, and `database_up` 0."""
        scrape = Scrape(self._config, self._pulse(), time.time())
        found = {row.name: _rows(row, scrape) for row in METRICS if row.source is not Source.DATABASE}
        try:
            with self._database.reading() as connection:
                inside = Scrape(scrape.config, scrape.pulse, scrape.now, connection, tally.read(connection))
                found |= {
                    row.name: list(row.read(inside)) for row in METRICS if row.source is Source.DATABASE
                }
        except Unavailable as error:
            LOG.warning("metrics: %s", error)
            found["dicom_node_database_up"] = [((), 0.0)]
        for row in METRICS:
            if row.name in found:
                yield _family(row, found[row.name])


def _rows(row: Row, scrape: Scrape) -> Rows:
    try:
        return list(row.read(scrape))
    except OSError:  # the disk cannot be looked at: this number is absent
        return []


def _family(row: Row, values: Rows) -> Metric:
    family = FAMILIES[row.kind](row.name, row.help, labels=row.labels)
    for labels, value in values:
        if row.kind == "summary":
            count, total = value if isinstance(value, tuple) else (0.0, 0.0)
            family.add_metric(labels, count, total)
        else:
            family.add_metric(labels, value)
    return family


def exposition(config: Config, database: Database, pulse: Callable[[], Pulse | None]) -> bytes:
    """Return the numbers of a node in Prometheus' text format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(config, database, pulse))
    return generate_latest(registry)
