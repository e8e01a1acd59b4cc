from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo

import pytest
import sqlalchemy as sa
from node_values import CT, EXPLICIT

from dicom_node.errors import Unavailable
from dicom_node.node.schedule import Schedule
from dicom_node.store.archive import Archive
from dicom_node.store.database import Database
from dicom_node.store.tables import study
from dicom_node.studies import queue as studies


def until(happened: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if happened():
            return True
        time.sleep(0.01)
    return False


def test_steps_are_called_again_and_again_until_stopped() -> None:
    calls: list[float] = []
    schedule = Schedule({"step": lambda: calls.append(time.monotonic())}, 0.05)
    schedule.start()
    assert until(lambda: len(calls) >= 3)
    schedule.stop()
    count = len(calls)
    time.sleep(0.2)
    assert len(calls) == count


def test_a_slow_step_holds_up_no_other_and_never_runs_twice_at_once() -> None:
    go, at_once, most, calls = threading.Event(), [0], [0], [0]

    def slow() -> None:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        go.wait(5)
        at_once[0] -= 1

    def quick() -> None:
        calls[0] += 1

    schedule = Schedule({"slow": slow, "quick": quick}, 0.02)
    schedule.start()
    assert until(lambda: calls[0] >= 5)
    go.set()
    schedule.stop()
    assert most == [1]


def test_a_step_that_fails_is_called_again() -> None:
    calls = [0]

    def step() -> None:
        calls[0] += 1
        raise Unavailable("away") if calls[0] % 2 else ZeroDivisionError

    schedule = Schedule({"step": step}, 0.02)
    schedule.start()
    assert until(lambda: calls[0] >= 4)
    schedule.stop()


def test_a_step_that_lacks_file_handles_is_one_line_and_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    def full() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    schedule = Schedule({"index": full}, 0.02)
    with caplog.at_level(logging.WARNING):
        schedule.start()
        time.sleep(0.3)
        schedule.stop()
    lines = [r for r in caplog.records if "Too many open files" in r.getMessage()]
    assert len(lines) == 1
    assert lines[0].exc_info is None


@pytest.mark.parametrize("jump", [timedelta(days=-2), timedelta(days=20000)])
def test_a_clock_that_is_set_stops_no_tick(monkeypatch: pytest.MonkeyPatch, jump: timedelta) -> None:
    calls, shift = [0], [timedelta()]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # typeshed wants Self
            return datetime.now(tz) + shift[0]

    def step() -> None:
        calls[0] += 1

    for module in ("apscheduler.schedulers.base", "dicom_node.node.schedule"):
        monkeypatch.setattr(f"{module}.datetime", Clock)
    schedule = Schedule({"step": step}, 0.05)
    schedule.start()
    assert until(lambda: calls[0] >= 2)
    shift[0] = jump
    before = calls[0]
    assert until(lambda: calls[0] >= before + 5)
    schedule.stop()


def touch(database: Database, uid: str, received_at: float) -> None:
    with database.writing() as connection:
        studies.touch(database, connection, uid, received_at, 30.0)


WAIT = 86400.0


def settle(database: Database, seen: studies.Due, state: studies.StudyState, now: float) -> bool:
    with database.writing() as connection:
        return studies.settle(connection, seen, state, "why", now, WAIT)


def test_a_study_is_due_when_it_has_been_quiet_in_whatever_order_its_images_were_read(
    database: Database,
) -> None:
    for at in (100.0, 120.0, 110.0):
        touch(database, "1.2", at)
    assert studies.due(database, 149.9, 30.0, WAIT) == []
    assert studies.due(database, 150.0, 30.0, WAIT) == [studies.Due("1.2", 150.0, "RECEIVING", 100.0)]


def test_images_that_come_while_it_is_decided_keep_it_due(database: Database) -> None:
    touch(database, "1.2", 100.0)
    (seen,) = studies.due(database, 130.0, 30.0, WAIT)
    touch(database, "1.2", 125.0)
    assert not settle(database, seen, "PAIRED", 131.0)
    assert studies.due(database, 155.0, 30.0, WAIT) == [studies.Due("1.2", 155.0, "RECEIVING", 100.0)]


def test_waiting_is_a_state_that_says_since_when(database: Database) -> None:
    for n, at in enumerate((100.0, 200.0)):
        touch(database, "1.2", at)
        (seen,) = studies.due(database, at + 30, 30.0, WAIT)
        assert settle(database, seen, "WAITING", at + 31)
        with database.reading() as connection:
            row = connection.execute(sa.select(study)).one()
        assert (row.state, row.reason, row.since, row.due_at) == ("WAITING", "why", 131.0, 131.0 + WAIT), n


def test_nothing_is_decided_while_an_image_that_came_before_is_unread(
    database: Database, archive: Archive
) -> None:
    archive.clock = lambda: 101.0
    archive.store(
        sop_class_uid=CT, sop_instance_uid="1.9", transfer_syntax_uid=EXPLICIT, calling_ae="", dataset=b"x"
    )
    touch(database, "1.2", 100.0)
    assert studies.due(database, 200.0, 30.0, WAIT) == []
    archive.clock = lambda: 140.0
    touch(database, "1.3", 60.0)
    assert studies.due(database, 200.0, 30.0, WAIT) == [studies.Due("1.3", 90.0, "RECEIVING", 60.0)]


def test_a_clock_set_back_by_an_hour_delays_nothing(database: Database) -> None:
    touch(database, "1.2", 4000.0)
    assert studies.due(database, 400.0, 30.0, WAIT) == [studies.Due("1.2", 4030.0, "RECEIVING", 4000.0)]
