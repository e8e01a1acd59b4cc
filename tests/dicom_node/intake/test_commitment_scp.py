"""Storage commitment asked of this node, by real associations: what is kept, and how the report comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from certificates import authority
from node_values import CT
from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.events import EventHandlerType

from dicom_node.dicom.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dicom_node.intake import storage_commitment as commit
from dicom_node.network import dimse_n as request
from dicom_node.network.storage_scp import Receiver
from dicom_node.network.tls import client_context, server_context
from dicom_node.node.status import status
from dicom_node.settings.config import ReceiveSettings
from dicom_node.settings.peers import Peer
from dicom_node.store.archive import Archive
from dicom_node.store.database import Database
from dicom_node.store.tables import commitment, instance

SC = "1.2.840.10008.5.1.4.1.1.7"


class Scanner:
    """An SCU of storage commitment that keeps the reports it gets."""

    def __init__(self, reply: int = 0x0000) -> None:
        self.reports: list[tuple[int, Dataset]] = []
        self.reply, self.ae = reply, AE("CT1")
        self.ae.add_requested_context(STORAGE_COMMITMENT)
        self.ae.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)

    def report(self, event: Any) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information))
        return self.reply, None

    def associate(self, port: int) -> Any:
        handlers: list[EventHandlerType] = [(evt.EVT_N_EVENT_REPORT, self.report)]
        assoc = self.ae.associate("127.0.0.1", port, ae_title="NODE", evt_handlers=handlers)
        assert assoc.is_established
        return assoc

    @contextmanager
    def listening(self) -> Iterator[int]:
        handlers: list[EventHandlerType] = [(evt.EVT_N_EVENT_REPORT, self.report)]
        server = self.ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert server is not None
        yield server.server_address[1]
        server.shutdown()

    def outcome(self) -> tuple[int, list[str], dict[str, int]]:
        """Event type, what is kept, and the Failure Reason of what is not, of the only report."""
        ((event_type, ds),) = self.reports
        return (
            event_type,
            [str(i.ReferencedSOPInstanceUID) for i in ds.get("ReferencedSOPSequence", [])],
            {str(i.ReferencedSOPInstanceUID): i.FailureReason for i in ds.get("FailedSOPSequence", [])},
        )


def asking(*references: tuple[str, str], transaction: str = "1.2.9") -> Dataset:
    ds = Dataset()
    ds.TransactionUID = transaction
    ds.ReferencedSOPSequence = []
    for sop_class, uid in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        ds.ReferencedSOPSequence.append(item)
    return ds


def ask(assoc: Any, ds: Dataset | None, action: int = 1) -> Dataset:
    response: Dataset
    response, _ = assoc.send_n_action(ds, action, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
    return response


@pytest.fixture
def kept(archive: Archive) -> list[str]:
    uids = [f"1.2.3.{n}" for n in range(4)]
    for uid in uids:
        archive.store(
            sop_class_uid=CT,
            sop_instance_uid=uid,
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            calling_ae="CT1",
            dataset=b"pixels",
        )
    return uids


@pytest.fixture
def port(archive: Archive, database: Database) -> Iterator[int]:
    handlers = {evt.EVT_N_ACTION: partial(commit.on_action, database, archive.layout.storage)}
    receiver = Receiver(ReceiveSettings(port=0), lambda one: "stored", lambda: 1e6, handlers)
    yield receiver.start()
    receiver.stop()


def row(database: Database) -> Any:
    with database.reading() as connection:
        return connection.execute(sa.select(commitment)).one()


def settings(*peers: Peer) -> ReceiveSettings:
    return ReceiveSettings(port=0, peers=peers)


def report(database: Database, archive: Archive, *peers: Peer, later: float = 10.0) -> None:
    commit.report(database, archive.layout.storage, settings(*peers), lambda: time.time() + later)


def test_only_what_has_a_row_of_its_class_and_a_whole_file_is_kept(
    archive: Archive, database: Database, kept: list[str]
) -> None:
    with database.reading() as connection:
        paths = dict(connection.execute(sa.select(instance.c.sop_instance_uid, instance.c.path)).all())
    (archive.layout.storage / paths[kept[1]]).unlink()
    with (archive.layout.storage / paths[kept[2]]).open("ab") as file:
        file.truncate(100)
    asked = [(CT, kept[0]), (CT, kept[1]), (CT, kept[2]), (SC, kept[3]), (CT, "1.2.3.99")]
    found, failed = commit.check(database, archive.layout.storage, asked)
    assert found == [(CT, kept[0])]
    assert [reason for _, reason in failed] == [0x0112, 0x0112, 0x0119, 0x0112]


def test_a_file_nobody_can_look_at_is_a_processing_failure(
    archive: Archive, database: Database, kept: list[str]
) -> None:
    with database.writing() as connection:
        connection.execute(sa.update(instance).values(path=instance.c.path + "/x"))  # ENOTDIR
    assert commit.check(database, archive.layout.storage, [(CT, kept[0])]) == ([], [((CT, kept[0]), 0x0110)])


def test_an_association_that_stays_open_gets_the_report(
    port: int, database: Database, kept: list[str]
) -> None:
    scanner = Scanner()
    assoc = scanner.associate(port)
    assert ask(assoc, asking(*((CT, uid) for uid in kept))).Status == 0x0000
    assert (row(database).state, row(database).objects) == ("QUEUED", 4)
    wait_until(lambda: row(database).state == "REPORTED")
    assoc.release()
    assert scanner.outcome() == (1, kept, {})
    assert status(database).commitments == ()


def test_requests_go_on_while_a_report_is_on_its_way(port: int, database: Database, kept: list[str]) -> None:
    scanner = Scanner()
    assoc = scanner.associate(port)
    for n in range(30):
        assert ask(assoc, asking((CT, kept[0]), transaction=f"1.2.{n}")).Status == 0x0000
        time.sleep(0.1)
    wait_until(lambda: len(scanner.reports) == 30)
    assoc.release()
    assert sorted(str(ds.TransactionUID) for _, ds in scanner.reports) == sorted(
        f"1.2.{n}" for n in range(30)
    )


def test_a_closed_association_is_followed_by_one_to_the_port_of_the_peer(
    port: int, archive: Archive, database: Database, kept: list[str]
) -> None:
    scanner = Scanner()
    assoc = scanner.associate(port)
    assert ask(assoc, asking((CT, kept[0]), (CT, "1.2.3.99"))).Status == 0x0000
    assoc.release()
    report(database, archive, later=0.0)
    assert row(database).attempts == 0  # not due: the association may still be open
    report(database, archive)
    assert row(database).reason == "no port for reports to CT1 at 127.0.0.1 in [[receive.peers]]"
    with scanner.listening() as there:
        report(database, archive, Peer("CT2", port=1), Peer("CT1", port=there), later=1000)
    assert scanner.outcome() == (2, [kept[0]], {"1.2.3.99": 0x0112})
    assert (row(database).state, row(database).failed, row(database).asked) == ("REPORTED", 1, "[]")
    assert [c.failed for c in status(database).commitments] == [1]


def test_a_peer_that_is_away_gets_its_report_later_and_is_given_up_at_last(
    port: int, archive: Archive, database: Database, kept: list[str]
) -> None:
    scanner = Scanner()
    assoc = scanner.associate(port)
    ask(assoc, asking((CT, kept[0])))
    assoc.release()
    away = Peer("CT1", port=1)
    for attempt in range(1, 4):
        report(database, archive, away, later=2000.0 * attempt)
        assert (row(database).state, row(database).attempts) == ("QUEUED", attempt)
    assert row(database).reason == "the requester (CT1 at 127.0.0.1:1) cannot be reached"
    report(database, archive, away, later=73 * 3600)
    assert row(database).state == "DEAD"
    assert row(database).reason.startswith("given up after 72 h: ")


def test_a_refused_report_is_not_repeated(
    port: int, archive: Archive, database: Database, kept: list[str]
) -> None:
    scanner = Scanner(reply=0x0112)
    assoc = scanner.associate(port)
    ask(assoc, asking((CT, kept[0])))
    assoc.release()
    with scanner.listening() as there:
        for later in (10, 2000):
            report(database, archive, Peer("CT1", port=there), later=later)
    assert len(scanner.reports) == 1
    assert row(database).reason == "the report was refused: no such SOP instance (0x0112)"


def test_the_same_request_again_is_one_transaction_and_another_under_its_uid_is_refused(
    port: int, database: Database, kept: list[str]
) -> None:
    assoc = Scanner().associate(port)
    assert ask(assoc, asking((CT, kept[0]))).Status == 0x0000
    assert ask(assoc, asking((CT, kept[0]))).Status == 0x0000
    refused = ask(assoc, asking((CT, kept[1])))
    assert (refused.Status, refused.ErrorComment) == (0x0115, commit.STATUSES["in use"].comment)
    assert row(database).objects == 1
    assoc.abort()


def hostile(depth: int) -> Dataset:
    ds = Dataset()
    for _ in range(depth):
        outer = Dataset()
        outer.ReferencedSOPSequence = [ds]
        ds = outer
    return ds


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_cannot_be_a_request_is_refused_and_the_association_goes_on(
    port: int, database: Database, kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assoc = Scanner().associate(port)
    assert ask(assoc, asking((CT, kept[0])), action=2).Status == 0x0123
    for wrong in (None, asking(), asking((CT, "../x")), asking((CT, kept[0]), transaction=""), hostile(200)):
        assert ask(assoc, wrong).Status == 0x0115
    monkeypatch.setattr(request, "LIMIT", 50)
    assert ask(assoc, asking((CT, kept[0]))).Status == 0x0115
    monkeypatch.undo()
    assert ask(assoc, asking((CT, kept[0]))).Status == 0x0000
    assoc.abort()


def test_what_a_scanner_writes_stays_out_of_the_log(
    port: int, kept: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    ds = asking((CT, kept[0]))
    with pytest.warns(UserWarning, match="Invalid value"):
        ds.PatientID, ds.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "SECRET" * 20, "SECRET"
    assoc = Scanner().associate(port)
    caplog.clear()  # of what this side's pydicom said
    assert ask(assoc, ds).Status == 0x0115
    assoc.abort()
    assert "SECRET" not in caplog.text


def test_a_report_goes_by_tls_where_requests_come_by_tls(
    archive: Archive, database: Database, kept: list[str], tmp_path: Path
) -> None:
    tls = authority(tmp_path, "ours")
    handlers = {evt.EVT_N_ACTION: partial(commit.on_action, database, archive.layout.storage)}
    receiver = Receiver(ReceiveSettings(port=0, tls=tls), lambda one: "stored", lambda: 1e6, handlers)
    scanner = Scanner()
    assoc = scanner.ae.associate("127.0.0.1", receiver.start(), tls_args=(client_context(tls), "127.0.0.1"))
    assert ask(assoc, asking((CT, kept[0]))).Status == 0x0000
    assoc.release()
    receiver.stop()
    server = scanner.ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, scanner.report)],
        ssl_context=server_context(tls),
    )
    assert server is not None
    peer = Peer("CT1", port=server.server_address[1])
    settings = ReceiveSettings(port=0, peers=(peer,), tls=tls)
    commit.report(database, archive.layout.storage, settings, lambda: time.time() + 10)
    server.shutdown()
    assert scanner.outcome() == (1, [kept[0]], {})


def test_a_deflated_data_set_is_not_even_negotiated(port: int) -> None:
    ae = AE("CT1")
    ae.add_requested_context(STORAGE_COMMITMENT, "1.2.840.10008.1.2.1.99")
    assoc = ae.associate("127.0.0.1", port)
    assert assoc.accepted_contexts == []
    assoc.abort()


def test_the_scanner_that_proposes_its_role_is_served_too(port: int, kept: list[str]) -> None:
    scanner = Scanner()
    role = build_role(STORAGE_COMMITMENT, scu_role=True)
    assoc = scanner.ae.associate("127.0.0.1", port, ext_neg=[role])
    assert ask(assoc, asking((CT, kept[0]))).Status == 0x0000
    assoc.abort()


def wait_until(happened: Any, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)
