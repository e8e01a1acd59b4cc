"""What becomes of an attempt whose storage goes away, or whose disk fails, while it works."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from node_values import make_pair

from analysis.parameters import Parameters
from dicom_node.jobs import attempts, worker
from dicom_node.jobs import queue as jobs
from dicom_node.jobs.order import Order, order_of
from dicom_node.settings.config import Config
from dicom_node.settings.layout import Layout
from dicom_node.store.database import Database
from dicom_node.store.identity import join
from dicom_node.store.tables import job


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """The order to work on the first attempt of a job, by a node of its own."""
    config = Config(storage=tmp_path / "storage")
    config.storage.mkdir()
    database = Database(config.database_url, prepare=True)
    identity = join(config.layout, database)
    with database.writing() as connection:
        number = jobs.create(database, connection, make_pair(), Parameters(), "1", 100.0)
    assert number
    assert attempts.start_next(database, 100.0)
    database.close()
    return order_of(config, number, 1, None, identity)


def work(order: Order, monkeypatch: pytest.MonkeyPatch, step: Callable[[], None]) -> tuple[str, str]:
    """State and reason of the job once its worker has met what `step` raises."""
    monkeypatch.setattr(worker, "_work", lambda *_: step())
    monkeypatch.setattr(worker, "VERDICT_SECONDS", 0.0)
    worker.work(order)
    database = Database(order.database_url)
    with database.reading() as connection:
        row = connection.execute(sa.select(job.c.state, job.c.reason)).one()
    database.close()
    return row.state, row.reason


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "No such file"), KeyError("UID")])
def test_whatever_fails_while_the_storage_is_away_is_tried_again(
    order: Order, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away() -> None:
        Layout(order.storage).identity.unlink()
        raise error

    state, reason = work(order, monkeypatch, away)
    assert state == "READY"
    assert "is not mounted" in reason


def test_a_disk_that_fails_is_tried_again(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> None:
        raise OSError(errno.EIO, "Input/output error")

    assert work(order, monkeypatch, failing) == ("READY", "the disk fails: Input/output error")


def test_a_file_that_was_away_for_a_moment_is_read_again(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    def back_again() -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(order.storage))

    state, reason = work(order, monkeypatch, back_again)
    assert (state, reason) == ("READY", "the disk fails: No such file or directory")


def test_a_file_that_is_gone_for_good_is_named(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        (order.storage / "archive" / "ab" / "cd").read_bytes()

    state, reason = work(order, monkeypatch, gone)
    assert state == "FAILED"
    assert reason == "archive/ab/cd is missing from the storage: send the images again, and retry"


def test_a_job_whose_images_were_removed_meanwhile_says_so(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(order.database_url)
    with database.writing() as connection:
        connection.execute(sa.update(job).values(pair=""))
    database.close()
    state, reason = work(order, monkeypatch, lambda: None)
    assert (state, reason) == ("REFUSED", f"the images of job {order.job_id} were removed")


def test_a_worker_that_finds_another_database_in_the_place_of_its_own_leaves_no_verdict(
    order: Order, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order.storage.rename(tmp_path / "away")
    order.storage.mkdir()
    other = Database(order.database_url, prepare=True)
    join(Layout(order.storage), other)
    other.close()
    with pytest.raises(SystemExit) as ended:
        work(order, monkeypatch, lambda: None)
    assert ended.value.code == attempts.TEMPFAIL
