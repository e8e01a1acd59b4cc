from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from node_values import CT, EXPLICIT, make_pair
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pynetdicom import AE, evt

from analysis.pipeline.pipeline import Parameters
from dicom_node.delivery import queue as deliver
from dicom_node.delivery import store_scu
from dicom_node.delivery.kinds import SENDERS, Sender
from dicom_node.delivery.outcome import Outcome, Parcel, pause
from dicom_node.jobs import queue as jobs
from dicom_node.network.association import associate
from dicom_node.settings.destinations import CStoreDestination, StowRsDestination
from dicom_node.store.database import Database
from dicom_node.store.tables import delivery, result

SR = "1.2.840.10008.5.1.4.1.1.88.34"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"


@contextmanager
def pacs(handle: Callable[[Any], int], classes: tuple[str, ...] = (SEG, SR)) -> Iterator[CStoreDestination]:
    ae = AE("PACS")
    for uid in classes:
        ae.add_supported_context(uid, EXPLICIT)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)])
    assert server is not None
    try:
        yield CStoreDestination(
            "pacs", ae_title="PACS", host="127.0.0.1", port=server.server_address[1], timeout=2.0
        )
    finally:
        server.shutdown()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def queue(database: Database, storage: Path, destinations: tuple[str, ...] = ("pacs",)) -> None:
    """A finished job with a SEG and an SR, queued at time 1000."""
    with database.writing() as connection:
        jobs.create(database, connection, make_pair(), Parameters(), "1.0", 1000.0)
        for n, sop_class in enumerate((SEG, SR), 1):
            ds = Dataset()
            ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, f"2.25.{n}", "OT"
            ds.file_meta = FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = EXPLICIT
            ds.save_as(storage / f"{n}.dcm", enforce_file_format=True)
            row = {"sop_instance_uid": ds.SOPInstanceUID, "sop_class_uid": sop_class, "path": f"{n}.dcm"}
            connection.execute(sa.insert(result).values(job_id=1, **row))
        deliver.queue(database, connection, ["2.25.1", "2.25.2"], destinations, 1000.0)


def rows(database: Database) -> list[Any]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(delivery).order_by(delivery.c.id)))


def states(database: Database) -> list[tuple[str, int]]:
    return [(row.state, row.attempts) for row in rows(database)]


def test_results_arrive_once_with_their_uids(database: Database, tmp_path: Path, clock: Clock) -> None:
    got: list[str] = []

    def handle(event: Any) -> int:
        got.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    queue(database, tmp_path)
    with pacs(handle) as destination:
        for _ in range(3):
            deliver.deliver(database, tmp_path, destination, "VQNODE", clock)
    assert got == ["2.25.1", "2.25.2"]
    assert [(r.state, r.status, r.attempts) for r in rows(database)] == [("SENT", 0, 1), ("SENT", 0, 1)]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (0xB000, "SENT"),
        (0xA700, "QUEUED"),
        (0xC123, "QUEUED"),
        (0x0110, "QUEUED"),
        (0xA900, "DEAD"),
        (0x0122, "DEAD"),
    ],
)
def test_the_status_decides(
    status: int, state: str, database: Database, tmp_path: Path, clock: Clock
) -> None:
    queue(database, tmp_path)
    with pacs(lambda event: status) as destination:
        deliver.deliver(database, tmp_path, destination, "VQNODE", clock)
    assert {(r.state, r.status) for r in rows(database)} == {(state, status)}
    assert all(f"0x{status:04X}" in r.reason for r in rows(database))


def test_a_dead_destination_is_tried_again_later_and_says_why(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    queue(database, tmp_path)
    with pacs(lambda event: 0) as destination:
        pass
    deliver.deliver(database, tmp_path, destination, "VQNODE", clock)
    first = rows(database)[0]
    assert (first.state, first.attempts) == ("QUEUED", 1)
    assert 1000.0 + 0.75 * destination.retry_seconds <= first.due_at <= 1000.0 + destination.retry_seconds
    assert first.reason == f"pacs (PACS at 127.0.0.1:{destination.port}) cannot be reached"
    deliver.deliver(database, tmp_path, destination, "VQNODE", clock)
    assert states(database) == [("QUEUED", 1)] * 2
    with pacs(lambda event: 0) as back:
        clock.now = 1010.0
        deliver.deliver(database, tmp_path, back, "VQNODE", clock)
    assert states(database) == [("SENT", 2)] * 2


def test_a_class_the_destination_does_not_take_stops_no_other(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    queue(database, tmp_path)
    with pacs(lambda event: 0, classes=(SR,)) as destination:
        deliver.deliver(database, tmp_path, destination, "VQNODE", clock)
    assert [r.state for r in rows(database)] == ["DEAD", "SENT"]
    assert rows(database)[0].reason == "pacs does not accept Segmentation Storage"


def test_a_lost_response_is_unknown_and_sent_again(database: Database, tmp_path: Path, clock: Clock) -> None:
    got: list[str] = []

    def handle(event: Any) -> int:
        got.append(event.request.AffectedSOPInstanceUID)
        if len(got) == 1:
            event.assoc.abort()
        return 0x0000

    queue(database, tmp_path)
    with pacs(handle) as destination:
        deliver.deliver(database, tmp_path, destination, "VQNODE", clock)
        first = rows(database)[0]
        assert (first.state, first.status) == ("QUEUED", None)
        assert "may have arrived" in first.reason
        clock.now = 2000.0
        deliver.deliver(database, tmp_path, destination, "VQNODE", clock)
    assert {r.state for r in rows(database)} == {"SENT"}
    assert got[0] == got[1] == "2.25.1"


def test_what_is_too_old_is_given_up_and_can_be_retried(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    queue(database, tmp_path)
    with pacs(lambda event: 0) as destination:
        pass
    clock.now = 1000.0 + 73 * 3600
    deliver.deliver(database, tmp_path, destination, "VQNODE", clock)
    assert states(database) == [("DEAD", 1)] * 2
    assert rows(database)[0].reason.startswith("given up after 72 h: pacs (PACS at")
    assert deliver.retry(database, 1, clock.now) == 2
    with pacs(lambda event: 0) as back:
        deliver.deliver(database, tmp_path, back, "VQNODE", clock)
    assert states(database) == [("SENT", 1)] * 2


def test_a_destination_that_hangs_holds_up_no_other(database: Database, tmp_path: Path, clock: Clock) -> None:
    go = threading.Event()

    def hang(event: Any) -> int:
        go.wait(10)
        return 0x0000

    queue(database, tmp_path, ("hangs", "pacs"))
    with pacs(hang) as slow, pacs(lambda event: 0) as quick:
        slow = replace(slow, name="hangs", timeout=20.0)
        thread = threading.Thread(target=deliver.deliver, args=(database, tmp_path, slow, "VQNODE", clock))
        thread.start()
        deliver.deliver(database, tmp_path, quick, "VQNODE", clock)
        assert {r.state for r in rows(database) if r.destination == "pacs"} == {"SENT"}
        go.set()
        thread.join()
    assert {r.state for r in rows(database)} == {"SENT"}


def test_pauses_double_up_to_the_longest() -> None:
    destination = CStoreDestination(
        "pacs", ae_title="PACS", host="h", retry_seconds=5.0, max_retry_seconds=60.0
    )
    longest = [max(pause(destination, n) for _ in range(200)) for n in range(6)]
    assert longest == pytest.approx([5, 10, 20, 40, 60, 60], rel=0.05)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.unlink(), "its file is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "its file is damaged"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "its file is damaged"),
    ],
)
def test_a_damaged_file_stops_no_other_is_asked_for_again_and_has_an_end(
    harm: Callable[[Path], object], reason: str, database: Database, tmp_path: Path, clock: Clock
) -> None:
    queue(database, tmp_path)
    with database.writing() as connection:
        for n in (1, 2):
            digest = hashlib.sha256((tmp_path / f"{n}.dcm").read_bytes()).hexdigest()
            where = result.c.sop_instance_uid == f"2.25.{n}"
            connection.execute(sa.update(result).where(where).values(sha256=digest))
    whole = (tmp_path / "1.dcm").read_bytes()
    harm(tmp_path / "1.dcm")
    asked: list[int] = []
    with pacs(lambda event: 0x0000) as destination:
        for _ in range(4):
            deliver.deliver(
                database,
                tmp_path,
                destination,
                "VQNODE",
                clock,
                on_damaged=lambda parcel: asked.append(parcel.job_id),
            )
            clock.now += 1000
        assert states(database) == [("QUEUED", 4), ("SENT", 1)]
        assert (rows(database)[0].reason, asked) == (reason, [1] * 4)
        (tmp_path / "1.dcm").write_bytes(whole)  # made again
        deliver.deliver(database, tmp_path, destination, "VQNODE", clock)
        assert states(database) == [("SENT", 5), ("SENT", 1)]


def test_a_file_damaged_after_many_attempts_is_asked_for_again(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    """The destination was away for long, and then the file is found damaged: somebody must make it again."""
    queue(database, tmp_path)
    with database.writing() as connection:
        connection.execute(sa.update(delivery).values(attempts=9))
    asked: list[int] = []
    (tmp_path / "1.dcm").unlink()
    with pacs(lambda event: 0x0000) as destination:
        deliver.deliver(
            *(database, tmp_path, destination, "VQNODE", clock),
            on_damaged=lambda parcel: asked.append(parcel.job_id),
        )
    assert (asked, states(database)) == ([1], [("QUEUED", 10), ("SENT", 10)])


def test_a_storage_that_is_away_costs_attempts_until_it_is_too_long_and_no_result_at_once(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "storage").mkdir()
    queue(database, tmp_path / "storage")
    (tmp_path / "storage").rename(tmp_path / "unmounted")
    with pacs(lambda event: 0x0000) as destination:
        deliver.deliver(database, tmp_path / "storage", destination, "VQNODE", clock)
        assert states(database) == [("QUEUED", 1), ("QUEUED", 1)]
        (tmp_path / "unmounted").rename(tmp_path / "storage")
        clock.now += 1000
        deliver.deliver(database, tmp_path / "storage", destination, "VQNODE", clock)
    assert {state for state, _ in states(database)} == {"SENT"}


def test_an_unreadable_authorization_costs_an_attempt_with_its_reason_and_ends_in_time(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    queue(database, tmp_path, ("web",))
    web = StowRsDestination(
        "web", url="http://127.0.0.1:1", authorization_file=tmp_path / "absent", max_age_hours=1
    )
    deliver.deliver(database, tmp_path, web, "VQNODE", clock)
    assert states(database) == [("QUEUED", 1), ("QUEUED", 1)]
    assert rows(database)[0].reason.startswith("web: authorization_file ")
    assert rows(database)[0].reason.endswith("cannot be read: No such file or directory")
    clock.now += 7200
    deliver.deliver(database, tmp_path, web, "VQNODE", clock)
    assert {state for state, _ in states(database)} == {"DEAD"}


def test_a_bug_in_a_sender_costs_an_attempt_of_what_it_did_not_answer(
    database: Database, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(parcels: Sequence[Parcel], *_: object) -> Iterator[tuple[Parcel, Outcome]]:
        yield parcels[0], Outcome("sent", "stored")
        raise ZeroDivisionError

    queue(database, tmp_path)
    monkeypatch.setitem(SENDERS, CStoreDestination, Sender(send, lambda *_: ""))
    destination = CStoreDestination("pacs", ae_title="PACS", host="h")
    deliver.deliver(database, tmp_path, destination, "VQNODE", clock)
    assert states(database) == [("SENT", 1), ("QUEUED", 1)]
    assert rows(database)[1].reason == "internal error: ZeroDivisionError"


def test_responses_survive_a_busy_processor(database: Database, tmp_path: Path) -> None:
    """The reactor thread must not take the response that the sender waits for (pynetdicom #351)."""
    import sys

    interval = sys.getswitchinterval()
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CT, "1.2.3"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = EXPLICIT
    sys.setswitchinterval(1e-5)
    try:
        with pacs(lambda event: 0, classes=(CT,)) as destination:
            path = tmp_path / "x.dcm"
            ds.save_as(path, enforce_file_format=True)
            parcel = Parcel(1, "1.2.3", CT, path, 0.0, 0)
            assoc = associate(destination, "VQNODE", store_scu._contexts([parcel]))
            assert all(store_scu.store(assoc, parcel).verdict == "sent" for _ in range(100))
            assoc.release()
    finally:
        sys.setswitchinterval(interval)
