"""Who is let in, by real sockets: strangers, half requests, slow ones and crowds keep no scanner out."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from node_values import CT, EXPLICIT, image
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.dsutils import encode

from dicom_node.dicom.uids import VERIFICATION
from dicom_node.network import guest, refusals, server
from dicom_node.network.acceptor import Acceptor
from dicom_node.network.admission import Load
from dicom_node.network.storage_scp import Receiver
from dicom_node.settings.config import ReceiveSettings
from dicom_node.settings.peers import Peer

SCANNER, OTHER = "127.0.0.1", "127.0.0.2"
ABORTED, ACCEPTED, REJECTED = 7, 2, 3


@contextmanager
def listening(alerts: list[Any] | None = None, load: Load | None = None, **settings: Any) -> Iterator[int]:
    told: list[Any] = [] if alerts is None else alerts
    receiver = Receiver(
        ReceiveSettings(port=0, **settings),
        lambda one: "stored",
        lambda: 1e6,
        alert=lambda *one: told.append(one),
    )
    yield receiver.start(load=load)
    receiver.stop()


def request(calling: bytes = b"CT1", called: bytes = b"VQNODE", more: int = 0) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2) for CT images, and so many bytes of a context nobody knows."""

    def item(kind: int, body: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(body)) + body

    context = bytes([1, 0, 0, 0]) + item(0x30, CT.encode()) + item(0x40, EXPLICIT.encode())
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16), calling.ljust(16))
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context)
    body += item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4"))
    return struct.pack(">BxL", 1, len(body) + more) + body


def connect(port: int, address: str = SCANNER) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10, (address, 0))


def answer(connection: socket.socket) -> int:
    """The type of the PDU that comes; 0 where the connection is closed."""
    try:
        head = connection.recv(6, socket.MSG_WAITALL)
        return head[0] if connection.recv(int.from_bytes(head[2:], "big")) else 0
    except (ConnectionError, IndexError):
        return 0


def associated(port: int, address: str = SCANNER, calling: bytes = b"CT1") -> tuple[int, socket.socket]:
    connection = connect(port, address)
    connection.sendall(request(calling))
    return answer(connection), connection


def scanner_gets_in(port: int) -> bool:
    """One image by an association of its own, from a title and address of its own."""
    ae = AE("SCANNER")
    ae.add_requested_context(CT, EXPLICIT)
    assoc = ae.associate("127.0.0.1", port)
    if not assoc.is_established:
        return False
    status = assoc.send_c_store(image())
    assoc.release()
    return bool("Status" in status and status.Status == 0x0000)


def test_a_stranger_is_closed_by_its_address_before_a_byte_of_it_is_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alerts: list[Any] = []
    with listening(alerts, peers=(Peer("CT1", SCANNER), Peer("", "192.0.2.0/24"))) as port:
        with connect(port, OTHER) as stranger:
            assert stranger.recv(1) == b""
        kind, connection = associated(port)
        assert kind == ACCEPTED
        connection.close()
    assert ("rejected", "", OTHER, "no allowed peer has this address") in alerts
    assert f"{OTHER}: no allowed peer has this address" in caplog.text


def test_a_title_nobody_may_have_is_rejected_before_the_request_is_whole() -> None:
    with listening(peers=(Peer("CT1"),)) as port, connect(port) as stranger:
        stranger.sendall(request(b"EVIL", more=200_000)[:50])
        assert answer(stranger) == REJECTED


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [
        (b"CT\n1", b"VQNODE", 3),
        (b"\x1b[2J", b"VQNODE", 3),
        (b"CT1\x00", b"VQNODE", 3),
        (b"CT\\1", b"VQNODE", 3),
        (b"\xc4", b"VQNODE", 3),
        (b"", b"VQNODE", 3),
        (b"CT1", b"VQ\x00NODE", 7),
        (b"CT1", b"", 7),
    ],
)
def test_what_is_no_ae_title_is_rejected_and_can_be_printed(
    calling: bytes, called: bytes, reason: int, caplog: pytest.LogCaptureFixture
) -> None:
    alerts: list[Any] = []
    with listening(alerts) as port, connect(port) as stranger:
        stranger.sendall(request(calling, called))
        assert stranger.recv(10, socket.MSG_WAITALL) == bytes([3, 0, 0, 0, 0, 4, 0, 1, 1, reason])
        assert stranger.recv(1) == b""
    assert alerts
    told = [record.getMessage() for record in caplog.records] + [text for alert in alerts for text in alert]
    assert all(line.isprintable() for line in told)


def test_an_ae_title_with_brackets_is_one() -> None:
    with listening() as port:
        assert associated(port, calling=b"[/bold]CT1")[0] == ACCEPTED


def test_the_time_for_a_request_is_not_prolonged_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 1.0)
    with listening() as port, connect(port) as slow:
        begin = time.monotonic()
        slow.settimeout(0.2)
        try:
            for at in range(200):
                slow.sendall(request()[at : at + 1])
                try:
                    assert slow.recv(1) == b""
                    break
                except TimeoutError:
                    continue
        except ConnectionError:
            pass
        assert 0.8 < time.monotonic() - begin < 3.0


@pytest.mark.parametrize("length", [guest.REQUEST_LIMIT + 1, 786_000, (1 << 32) - 1, 10])
def test_a_request_that_is_too_long_or_too_short_is_aborted_at_its_header(length: int) -> None:
    with listening() as port, connect(port) as stranger:
        stranger.sendall(struct.pack(">BxL", 1, length))
        assert answer(stranger) == ABORTED


@pytest.mark.parametrize("kind", [0, 2, 4, 7, 255])
def test_a_connection_begins_with_a_request_for_an_association(kind: int) -> None:
    with listening() as port, connect(port) as stranger:
        stranger.sendall(struct.pack(">BxL", kind, 4) + bytes(4))
        assert answer(stranger) == ABORTED


def test_a_request_that_cannot_be_decoded_is_aborted() -> None:
    broken = bytearray(request())
    broken[74] = 0x99  # no item of that type
    with listening() as port, connect(port) as stranger:
        stranger.sendall(bytes(broken))
        assert answer(stranger) == ABORTED


def test_a_request_that_cannot_be_decoded_keeps_no_seat() -> None:
    broken, load = bytearray(request()), Load(1)
    broken[74] = 0x99  # no item of that type
    with listening(load=load, maximum_associations=1) as port:
        with connect(port) as stranger:
            stranger.sendall(bytes(broken))
            assert answer(stranger) == ABORTED
        until(lambda: load.held(SCANNER, "CT1").associations == 0, 3.0)
        assert scanner_gets_in(port)


def test_where_too_many_wait_the_one_that_waited_longest_of_those_with_most_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "LOBBY", 4)
    with listening() as port:
        waiting = [connect(port, address) for address in (SCANNER, OTHER, OTHER, OTHER)]
        time.sleep(0.3)
        fifth = connect(port, SCANNER)
        assert waiting[1].recv(1) == b""
        for connection in (waiting[0], waiting[2], waiting[3], fifth):
            connection.sendall(request())
            assert answer(connection) == ACCEPTED


def test_half_requests_from_its_own_address_keep_no_scanner_out() -> None:
    with listening() as port:
        half = [connect(port) for _ in range(3 * server.LOBBY)]
        for connection in half:
            connection.sendall(request()[:40])
        assert all(scanner_gets_in(port) for _ in range(5))


def test_one_address_may_not_have_all_associations() -> None:
    with listening(maximum_associations=4) as port:
        titles = [f"A{n}".encode() for n in range(4)]
        found = [associated(port, OTHER, title) for title in titles]
        assert [kind for kind, _ in found] == [ACCEPTED, ACCEPTED, ACCEPTED, REJECTED]
        assert scanner_gets_in(port)


def test_one_ae_title_may_not_have_all_associations() -> None:
    with listening(maximum_associations=4) as port:
        found = [associated(port, f"127.0.0.{n}") for n in range(2, 6)]
        assert [kind for kind, _ in found] == [ACCEPTED, ACCEPTED, ACCEPTED, REJECTED]
        assert scanner_gets_in(port)


def test_the_limit_is_the_one_of_the_settings_and_a_seat_is_free_again_however_its_association_ends() -> None:
    load = Load(5)
    with listening(load=load, maximum_associations=5, associations_per_peer=5) as port:
        for _ in range(4):
            found = [associated(port) for _ in range(7)]
            assert [kind for kind, _ in found] == [ACCEPTED] * 5 + [REJECTED] * 2
            for n, (_, connection) in enumerate(found):
                if n % 2:
                    connection.sendall(bytes.fromhex("05000000000400000000"))  # A-RELEASE-RQ
                    answer(connection)
                connection.close()
            until(lambda: load.held(SCANNER, "CT1").associations == 0)


def until(happened: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def pdata(value: bytes, control: int) -> bytes:
    """A P-DATA-TF PDU (PS3.8 9.3.5) of one value."""
    return struct.pack(">BxLLBB", 4, len(value) + 6, len(value) + 2, 1, control) + value


def store_command() -> bytes:
    command = Dataset()
    command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = CT, "1.2.3.4"
    command.CommandField, command.MessageID, command.Priority, command.CommandDataSetType = 1, 1, 0, 1
    return pdata(encode(command, True, True) or b"", 3)


def test_what_came_quickly_buys_no_time_in_which_a_byte_now_and_then_holds_its_memory() -> None:
    with listening(network_timeout=1.0, memory_mb=1) as port:
        _, slow = associated(port, OTHER)
        slow.sendall(store_command() + b"".join(pdata(bytes(99_000), 0) for _ in range(10)))
        time.sleep(0.2)
        assert not big_one_gets_in(port)  # there is no room
        slow.settimeout(0.25)
        begin, ended = time.monotonic(), False
        while not ended and time.monotonic() - begin < 10:
            try:
                slow.sendall(pdata(b"\0", 0))
                ended = slow.recv(100)[:1] in (b"", bytes([ABORTED]))
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
        assert 1.0 < time.monotonic() - begin < 4.0
        until(lambda: big_one_gets_in(port))


def big_one_gets_in(port: int) -> bool:
    _, connection = associated(port, SCANNER, b"SCANNER")
    with connection:
        connection.settimeout(2.0)
        try:
            connection.sendall(store_command() + pdata(bytes(100_000), 0) + pdata(bytes(2), 2))
            return answer(connection) == 4
        except OSError:
            return False


def test_a_steady_sender_may_be_as_slow_as_is_said() -> None:
    with listening(network_timeout=1.0) as port:
        _, steady = associated(port)
        steady.sendall(store_command())
        for _ in range(30):
            steady.sendall(pdata(bytes(1000), 0))
            time.sleep(0.1)
        steady.sendall(pdata(b"", 2))
        steady.settimeout(5.0)
        assert answer(steady) == 4


class Tired:
    """A listening socket of a system that has no file handle left, for a while."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening, self.failures, self.error = listening, 2, errno.EMFILE

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)

    def accept(self) -> Any:
        if self.failures:
            self.failures -= 1
            raise OSError(self.error, os.strerror(self.error))
        return self._listening.accept()


def test_a_system_without_file_handles_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    tired = Tired(socket.create_server(("127.0.0.1", 0)))
    receiver = Receiver(ReceiveSettings(port=0), lambda one: "stored", lambda: 1e6)
    port = receiver.start(tired)  # type: ignore[arg-type]
    try:
        assert scanner_gets_in(port)
        assert receiver.accepts
    finally:
        receiver.stop()
    assert "no connection can be accepted: Too many open files" in caplog.text


def test_a_crowd_that_is_refused_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with listening(peers=(Peer("CT1"),)) as port:
        for n in range(200):
            with connect(port) as stranger:
                stranger.sendall(request(f"EVIL{n}".encode()))
                assert answer(stranger) == REJECTED
    lines = [record for record in caplog.records if record.name == refusals.__name__]
    assert 0 < len(lines) <= 10 * refusals.TOLD


def test_an_echo_is_answered_while_others_say_nothing() -> None:
    with listening() as port:
        silent = [connect(port) for _ in range(5)]
        ae = AE("SCANNER")
        ae.add_requested_context(VERIFICATION)
        assoc = ae.associate("127.0.0.1", port)
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()
        for one in silent:
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.recv(1)


def test_everything_is_closed_when_the_node_stops() -> None:
    with listening() as port:
        waiting, (_, open_) = connect(port), associated(port)
        time.sleep(0.2)
    assert answer(waiting) == 0
    assert answer(open_) in (0, ABORTED)
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def test_a_listening_socket_that_is_none_any_longer_ends_the_thread_for_its_process_to_see() -> None:
    tired = Tired(socket.create_server(("127.0.0.1", 0)))
    tired.error, tired.failures = errno.EINVAL, 1
    receiver = Receiver(ReceiveSettings(port=0), lambda one: "stored", lambda: 1e6)
    port = receiver.start(tired)  # type: ignore[arg-type]
    with suppress(ConnectionError):
        connect(port).close()
    until(lambda: not receiver.accepts)
    receiver.stop()


def test_ipv6_is_served_and_its_peers_are_known() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with listening(host="::1", peers=(Peer("CT1", "::1"),)) as port:
        connection = socket.create_connection(("::1", port), 10)
        connection.sendall(request())
        assert answer(connection) == ACCEPTED
        connection.close()


def test_where_no_thread_can_be_started_the_seat_is_free_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start, failures = Acceptor.start, [RuntimeError("can't start new thread"), MemoryError()]

    def tired(self: Acceptor) -> None:
        if failures:
            raise failures.pop(0)
        start(self)

    monkeypatch.setattr(Acceptor, "start", tired)
    load = Load(1)
    with listening(load=load, maximum_associations=1) as port:
        assert [associated(port)[0] for _ in range(2)] == [0, 0]
        assert scanner_gets_in(port)
        until(lambda: load.held(SCANNER, "SCANNER").associations == 0)
    assert "no association can be begun (RuntimeError)" in caplog.text
