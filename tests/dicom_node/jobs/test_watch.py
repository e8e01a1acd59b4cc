from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_values import make_pair

from analysis.parameters import Parameters
from dicom_node.errors import Rejected
from dicom_node.jobs import attempts
from dicom_node.jobs import queue as jobs
from dicom_node.jobs.executors import watch
from dicom_node.settings.config import Config, JobSettings, read_config
from dicom_node.settings.dask import DaskSettings
from dicom_node.settings.peers import TlsSettings
from dicom_node.store.database import Database
from dicom_node.store.identity import join


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The database of a machine with a job that is RUNNING, whose images are nowhere."""
    file = tmp_path / "node.toml"
    file.write_text("storage = 'storage'\n")
    monkeypatch.setenv(watch.VARIABLE, str(file))
    config = read_config(file)
    config.storage.mkdir()
    database = Database(config.database_url, prepare=True)
    join(config.layout, database)
    with database.writing() as connection:
        jobs.create(database, connection, make_pair(), Parameters(), "1.0", 100.0)
    attempts.start_next(database, 100.0)
    yield database
    database.close()


def asleep(which: tuple[int, int], path: Path) -> list[str]:
    return ["sleep", "600"]


def test_an_attempt_is_worked_on_in_a_process_of_its_own_and_leaves_its_verdict(node: Database) -> None:
    assert watch.attempt(1, 1) == "ended with exit code 0"
    assert jobs.state_of(node, 1) == "REFUSED"


def test_an_attempt_that_was_begun_on_a_worker_that_is_gone_is_not_begun_again(node: Database) -> None:
    assert attempts.begun(node, 1, 1, "gone:1")
    assert watch.attempt(1, 1) == watch.WORKER_LOST
    assert jobs.state_of(node, 1) == "RUNNING"


def test_the_process_of_a_job_that_was_cancelled_is_ended_within_two_seconds(
    node: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "words", asleep)
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.1)
    timer = threading.Timer(0.5, jobs.cancel, (node, 1, 200.0))
    timer.start()
    began = time.monotonic()
    assert watch.attempt(1, 1) == "was ended"
    assert time.monotonic() - began < 2.5
    timer.join()


def test_an_attempt_that_takes_too_long_is_ended(
    node: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node.toml").write_text("storage = 'storage'\n[jobs]\nmax_minutes = 0.01\n")
    monkeypatch.setattr(watch, "words", asleep)
    assert watch.attempt(1, 1) == "ran longer than 0.01 minutes"


def test_a_worker_without_a_configuration_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(watch.VARIABLE, raising=False)
    with pytest.raises(Rejected, match="has no DICOM_NODE_CONFIG"):
        watch.attempt(1, 1)


TLS = TlsSettings(Path("c"), Path("k"), Path("a"))


@pytest.mark.parametrize(
    ("address", "tls", "problem"),
    [
        ("tls://host:8786", None, "needs the table"),
        ("tcp://192.0.2.1:8786", None, "can run programs on its workers"),
        ("tcp://127.0.0.1:8786", TLS, "can run programs on its workers"),
        ("host:8786", None, "is tls://host:port"),
        ("tls://host", TLS, "is tls://host:port"),
        ("tls://host:many", TLS, "is tls://host:port"),
    ],
)
def test_a_scheduler_is_reached_over_tls_or_on_loopback(
    address: str, tls: TlsSettings | None, problem: str
) -> None:
    with pytest.raises(Rejected, match=problem):
        DaskSettings(address, tls)
    assert DaskSettings("tls://host:8786", TLS).tls == TLS
    assert DaskSettings("tcp://127.0.0.1:8786").tls is None


def test_an_engine_of_several_machines_needs_a_database_that_they_reach() -> None:
    dask = JobSettings(engine="dask", dask=DaskSettings("tls://host:8786", TLS))
    with pytest.raises(Rejected, match="needs a database on PostgreSQL"):
        Config(jobs=dask)
    assert Config(jobs=dask, database="postgresql+psycopg://node@db/node").jobs.engine == "dask"
    with pytest.raises(Rejected, match="need each other"):
        JobSettings(engine="dask")
