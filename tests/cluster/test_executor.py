"""The engine `dask` against a scheduler and a worker of this process: run by `sh tests/cluster.sh`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dicom_node.errors import Unavailable
from dicom_node.jobs.executors import dask, watch
from dicom_node.jobs.executors.dask import LOST, DaskExecutor
from dicom_node.jobs.order import Order, order_of
from dicom_node.processes import Ended
from dicom_node.settings.config import Config
from dicom_node.settings.dask import DaskSettings

pytestmark = pytest.mark.slow
distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")

GO_ON = threading.Event()


def attempt(job_id: int, number: int) -> str:
    """Stands in for `watch.attempt`: the number of the job says what happens."""
    if job_id == 1:
        return "ended with exit code 0"
    if job_id == 2:
        raise Unavailable("the storage is not mounted")
    if job_id == 3:
        raise ModuleNotFoundError("dicom_node")
    GO_ON.wait(30)
    return "ended by signal 9"


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(watch, "attempt", attempt)
    GO_ON.clear()
    yield
    GO_ON.set()


def cluster(port: int = 0) -> Any:
    return distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        scheduler_port=port,
        dashboard_address=None,
    )


def order(job_id: int) -> Order:
    return order_of(Config(), job_id, 1, None)


def wait(happened: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def outcome(engine: DaskExecutor, given: Order) -> Ended[Order]:
    engine.start(given)
    wait(lambda: [e for e in engine.ended() if e.order is given])
    (ended,) = [e for e in engine.ended() if e.order is given]
    engine.forget(given)
    return ended


def test_what_became_of_a_task_is_told_and_only_its_own_end_is_blamed_on_a_job() -> None:
    with cluster() as local:
        engine = DaskExecutor(DaskSettings(local.scheduler_address))
        assert engine.free == 1
        told = {n: outcome(engine, order(n)) for n in (1, 2, 3)}
        assert (told[1].how, told[1].blames) == ("ended with exit code 0", True)
        assert (told[2].how, told[2].blames) == ("the storage is not mounted", False)
        assert (told[3].how, told[3].blames) == ("a Dask worker cannot begin: ModuleNotFoundError", False)
        long = order(4)
        engine.start(long)
        assert engine.free == 0
        assert engine.orders == [long]
        assert engine.ended() == []
        engine.end(long)  # the task goes on until `watch` sees it; the node does not wait for that
        assert [e.order for e in engine.ended()] == [long]
        engine.forget(long)
        assert engine.orders == []
        GO_ON.set()
        wait(lambda: engine.free == 1)
        engine.stop()


def test_a_scheduler_that_answers_late_costs_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster() as local:
        engine = DaskExecutor(DaskSettings(local.scheduler_address))
        long = order(4)
        engine.start(long)
        wait(lambda: _free(engine) == 0)
        with monkeypatch.context() as busy:
            busy.setattr(dask, "ANSWER_SECONDS", 1e-6)
            with pytest.raises(Unavailable, match="does not answer: TimeoutError"):
                assert engine.free
        assert engine.ended() == []
        assert _free(engine) == 0
        GO_ON.set()
        wait(engine.ended)
        assert [ended.how for ended in engine.ended()] == ["ended by signal 9"]
        engine.stop()


def test_a_scheduler_that_goes_away_is_connected_to_again() -> None:
    with cluster() as local:
        address = local.scheduler_address
        engine = DaskExecutor(DaskSettings(address))
        lost = order(4)
        engine.start(lost)
        GO_ON.set()
    wait(lambda: engine.ended())
    with pytest.raises(Unavailable, match="Dask scheduler"):
        assert engine.free
    (ended,) = engine.ended()
    assert ended.how in (LOST, "ended by signal 9")
    engine.forget(lost)
    with cluster(int(address.rpartition(":")[2])):
        wait(lambda: _free(engine) == 1)
        assert outcome(engine, order(1)).how == "ended with exit code 0"
        engine.stop()


def _free(engine: DaskExecutor) -> int:
    try:
        return engine.free
    except Unavailable:
        return -1
