"""Processes that receive: each is started again however it ended, and a node that has none says so."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import Pipe, active_children
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE
from running_node import config

from dicom_node.dicom.uids import VERIFICATION
from dicom_node.errors import Unavailable
from dicom_node.intake import receivers
from dicom_node.intake.lean import Held, Order
from dicom_node.intake.receivers import Acceptors
from dicom_node.network.admission import Load
from dicom_node.network.storage_scp import Receiver
from dicom_node.node.node import Node
from dicom_node.settings.config import Config
from dicom_node.store.database import Database


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    made = config(tmp_path)
    made.storage.mkdir(mode=0o700)
    Database(made.database_url, prepare=True).close()
    return made


@contextmanager
def receiving(settings: Config) -> Iterator[tuple[Acceptors, int]]:
    descriptor = os.open(settings.storage / "node.lock", os.O_RDWR | os.O_CREAT, 0o600)
    acceptors = Acceptors(settings, descriptor)
    try:
        yield acceptors, acceptors.start()
    finally:
        acceptors.stop()
        os.close(descriptor)


def until(happened: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def echo(port: int) -> bool:
    ae = AE("CT1")
    ae.add_requested_context(VERIFICATION)
    assoc = ae.associate("127.0.0.1", port)
    if assoc.is_established:
        assoc.release()
    return bool(assoc.is_released)


def pids() -> set[int]:
    return {child.pid or 0 for child in active_children() if child.name == "acceptor"}


def test_a_process_that_could_not_be_started_once_is_tried_again(
    settings: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spawn, failures = receivers._spawn, [OSError(24, "Too many open files"), MemoryError()]

    def failing(order: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return spawn(order)

    monkeypatch.setattr(receivers, "_spawn", failing)
    monkeypatch.setattr(receivers, "AGAIN_SECONDS", 0.1)
    with receiving(settings) as (acceptors, port):
        until(lambda: acceptors.accepting == settings.receive.acceptors)
        assert echo(port)
        assert not acceptors.lost
    assert "cannot be started (Too many open files): started again after 0.1 s" in caplog.text
    assert "cannot be started (MemoryError): started again after" in caplog.text


def test_killed_processes_are_started_again_and_what_they_held_is_free(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers, "AGAIN_SECONDS", 0.1)
    receive = replace(settings.receive, maximum_associations=2, associations_per_peer=2)
    with receiving(replace(settings, receive=receive)) as (acceptors, port):
        until(lambda: acceptors.accepting == 2)
        for _ in range(2):
            ae = AE("CT1")
            ae.add_requested_context(VERIFICATION)
            assert all(ae.associate("127.0.0.1", port).is_established for _ in range(2))
            assert not echo(port)  # all are taken
            before = pids()
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            until(lambda: acceptors.accepting == 2 and not pids() & before)  # noqa: B023
            assert echo(port)


def test_the_pause_grows_while_a_process_ends_at_once_and_the_reason_is_one_sentence(
    settings: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(receivers, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(receivers, "LONGEST_PAUSE_SECONDS", 0.04)

    def failing(order: Any) -> Any:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(receivers, "_spawn", failing)
    with receiving(settings):
        until(lambda: caplog.text.count("after 0.04 s") >= 4)
    assert "after 0.01 s" in caplog.text
    assert "after 0.02 s" in caplog.text
    assert "after 0.08 s" not in caplog.text


def test_where_no_process_can_be_started_the_node_is_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(order: Any) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(receivers, "LOST_SECONDS", 0.5)
    node = Node(config(tmp_path))
    monkeypatch.setattr(receivers, "_spawn", failing)
    node.start()
    try:
        node.check()
        time.sleep(1.0)
        with pytest.raises(Unavailable, match="no process has accepted connections"):
            node.check()
    finally:
        node.stop()


def test_a_node_whose_processes_accept_is_not_to_end(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers, "LOST_SECONDS", 0.5)
    with receiving(settings) as (acceptors, _):
        until(lambda: acceptors.accepting)
        assert not acceptors.lost
        time.sleep(1.0)
        assert not acceptors.lost


def test_a_process_that_does_not_accept_in_time_is_ended_and_another_is_started(
    settings: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(receivers, "START_SECONDS", 0.0)
    monkeypatch.setattr(receivers, "AGAIN_SECONDS", 0.1)
    with receiving(settings) as (acceptors, port):
        until(lambda: "did not accept connections after 0 s" in caplog.text)
        monkeypatch.setattr(receivers, "START_SECONDS", 60.0)
        until(lambda: acceptors.accepting == settings.receive.acceptors)
        assert echo(port)


def test_a_process_whose_thread_that_accepts_has_ended_ends_too(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Kept(Receiver):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(receivers, "Receiver", Kept)
    monkeypatch.setattr(receivers, "FLUSH_SECONDS", 0.05)
    listening = socket.create_server(("127.0.0.1", 0))
    seats = settings.receive.maximum_associations
    order = Order(settings, listening, Held(-1), Load.shared(seats, 1), 0, None)
    mine, theirs = Pipe()
    ended: list[Exception] = []

    def run() -> None:
        try:
            receivers._receive(order, theirs)
        except Unavailable as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert mine.recv_bytes() == receivers.ACCEPTS
    assert made[0].accepts
    made[0]._server.stop()
    thread.join(10)
    assert "the thread that accepts connections has ended" in str(ended[0])
