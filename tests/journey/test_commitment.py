"""Storage commitment of results by Orthanc, which reports on an association of its own, and by a peer that does so
on the association of the request."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from certificates import authority
from peers import free_port, orthanc
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import EventHandlerType
from queued import CT, queue, rows, states

from dicom_node.delivery import queue as deliver
from dicom_node.delivery import storage_commitment as confirm
from dicom_node.dicom.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dicom_node.network.storage_scp import Received, Receiver
from dicom_node.settings.config import ReceiveSettings
from dicom_node.settings.destinations import CStoreDestination, Destination
from dicom_node.settings.peers import TlsSettings
from dicom_node.store.database import Database
from dicom_node.store.tables import delivery


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'node.db'}", prepare=True)
    yield database
    database.close()


@contextmanager
def receiver(
    database: Database, destination: Destination, port: int, tls: TlsSettings | None = None
) -> Iterator[None]:
    def store(received: Received) -> Any:
        raise AssertionError("nothing is sent to the node here")

    handlers = {evt.EVT_N_EVENT_REPORT: partial(confirm.on_report, database, [destination])}
    scp = Receiver(ReceiveSettings(port=port, tls=tls), store, lambda: 1e6, handlers)
    scp.start()
    try:
        yield
    finally:
        scp.stop()


def pacs_at(port: int) -> CStoreDestination:
    return CStoreDestination(
        "pacs", ae_title="ORTHANC", host="127.0.0.1", port=port, timeout=5, storage_commitment=True
    )


def until_not(database: Database, state: str) -> None:
    end = time.monotonic() + 120
    while state in states(database) and time.monotonic() < end:
        time.sleep(0.1)


def test_orthanc_confirms_what_it_keeps_and_gets_again_what_it_lost(
    database: Database, tmp_path: Path
) -> None:
    here = free_port()
    node: dict[str, Any] = {"DicomModalities": {"node": ["VQNODE", "127.0.0.1", here]}}
    with orthanc(tmp_path / "orthanc", **node) as peer, receiver(database, pacs_at(peer.port), here):
        pacs = pacs_at(peer.port)
        queue(database, tmp_path, "pacs", now=time.time())
        deliver.deliver(database, tmp_path, pacs, "VQNODE")
        assert states(database) == {"SENT"}
        lost = peer.instances()[rows(database)[1].sop_instance_uid]
        peer.delete(f"/instances/{lost}")
        confirm.ask(database, pacs, "VQNODE")
        until_not(database, "SENT")
        assert [r.state for r in rows(database)] == ["CONFIRMED", "QUEUED", "CONFIRMED"]
        assert rows(database)[1].reason == "not committed: no such object instance (0x0112)"
        deliver.deliver(database, tmp_path, pacs, "VQNODE", lambda: time.time() + 1000)
        confirm.ask(database, pacs, "VQNODE", lambda: time.time() + 2000)
        until_not(database, "SENT")
        assert states(database) == {"CONFIRMED"}
        assert len(peer.instances()) == 3


def test_orthanc_takes_results_and_confirms_them_over_tls_both_ways(
    database: Database, tmp_path: Path
) -> None:
    here, own = free_port(), authority(tmp_path, "clinic")
    tls: dict[str, Any] = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(own.certificate),
        "DicomTlsPrivateKey": str(own.key),
        "DicomTlsTrustedCertificates": str(own.authorities),
        "DicomModalities": {
            "node": {"AET": "VQNODE", "Host": "127.0.0.1", "Port": here, "UseDicomTls": True}
        },
    }
    with orthanc(tmp_path / "orthanc", **tls) as peer:
        plain, pacs = pacs_at(peer.port), replace(pacs_at(peer.port), tls=own)
        queue(database, tmp_path, "pacs", now=time.time())
        with receiver(database, pacs, here, own):
            deliver.deliver(database, tmp_path, plain, "VQNODE")
            assert states(database) == {"QUEUED"}
            deliver.deliver(database, tmp_path, pacs, "VQNODE", lambda: time.time() + 1000)
            confirm.ask(database, pacs, "VQNODE", lambda: time.time() + 2000)
            until_not(database, "SENT")
        assert states(database) == {"CONFIRMED"}


def test_a_pacs_without_storage_commitment_leaves_results_sent_and_says_so(
    database: Database, tmp_path: Path
) -> None:
    queue(database, tmp_path, "pacs")
    ae = AE("ORTHANC")
    ae.add_supported_context(CT)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda e: 0)])
    assert server is not None
    pacs = replace(pacs_at(server.server_address[1]), max_age_hours=1)
    try:
        now = 1000.0
        deliver.deliver(database, tmp_path, pacs, "VQNODE", lambda: now)
        confirm.ask(database, pacs, "VQNODE", lambda: now)
    finally:
        server.shutdown()
    assert {(r.state, r.attempts) for r in rows(database)} == {("SENT", 2)}
    assert "cannot be reached" in rows(database)[0].reason or "not offer" in rows(database)[0].reason
    confirm.ask(database, pacs, "VQNODE", lambda: now + 3 * 3600)
    assert {r.state for r in rows(database)} == {"DEAD"}
    assert rows(database)[0].reason == "given up after 1 h: stored, but never confirmed"


def test_a_report_on_the_association_of_the_request_counts(database: Database, tmp_path: Path) -> None:
    def act(event: Any) -> tuple[int, None]:
        requests.append((event.assoc, event.action_information))
        return 0x0000, None

    requests: list[tuple[Any, Dataset]] = []
    with committing(act) as pacs:
        queue(database, tmp_path, "pacs", now=time.time())
        deliver.deliver(database, tmp_path, pacs, "VQNODE")

        def report() -> None:
            while not requests:
                time.sleep(0.02)
            assoc, asked = requests[0]
            time.sleep(0.2)
            status, _ = assoc.send_n_event_report(asked, 1, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
            answers.append(status.Status)

        answers: list[int] = []
        thread = threading.Thread(target=report, daemon=True)
        thread.start()
        confirm.ask(database, pacs, "VQNODE")
        thread.join(10)
    assert answers == [0x0000]
    assert states(database) == {"CONFIRMED"}


@contextmanager
def committing(act: Any) -> Iterator[CStoreDestination]:
    ae = AE("ORTHANC")
    ae.add_supported_context(CT)
    ae.add_supported_context(STORAGE_COMMITMENT)
    handlers: list[EventHandlerType] = [(evt.EVT_C_STORE, lambda e: 0), (evt.EVT_N_ACTION, act)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield pacs_at(server.server_address[1])
    finally:
        server.shutdown()


def test_without_a_report_it_is_asked_again_under_another_transaction(
    database: Database, tmp_path: Path
) -> None:
    asked: list[str] = []

    def act(event: Any) -> tuple[int, None]:
        asked.append(str(event.action_information.TransactionUID))
        return 0x0000, None

    with committing(act) as pacs:
        queue(database, tmp_path, "pacs")
        deliver.deliver(database, tmp_path, pacs, "VQNODE", lambda: 1000.0)
        for now in (1000.0, 1001.0, 1000.0 + pacs.confirm_seconds + 1):
            confirm.ask(database, pacs, "VQNODE", partial(float, now))
    assert len(asked) == len(set(asked)) == 2


def test_a_report_of_a_transaction_nobody_asked_for_confirms_nothing(
    database: Database, tmp_path: Path
) -> None:
    queue(database, tmp_path, "pacs")
    with database.writing() as connection:
        connection.execute(sa.update(delivery).values(state="SENT", transaction_uid="2.25.1"))
    report, item = Dataset(), Dataset()
    report.TransactionUID = "2.25.2"
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, rows(database)[0].sop_instance_uid
    report.ReferencedSOPSequence = [item]
    assert not confirm.record(database, [pacs_at(104)], report, 1000.0)
    assert states(database) == {"SENT"}
