"""The audit trail: messages by the standard's schema, a real repository by TCP, TLS and file, and one that is away."""

from __future__ import annotations

import getpass
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from certificates import authority
from lxml import etree  # type: ignore[import-untyped]  # its types are another package
from node_values import CT, send, write_scan
from pydicom import dcmread
from pynetdicom import AE, evt
from running_node import config, done, running, until

from dicom_node.audit.trail import Trail
from dicom_node.errors import Rejected, Unavailable
from dicom_node.network.storage_scp import Receiver
from dicom_node.network.tls import server_context
from dicom_node.settings.config import AuditSettings, ReceiveSettings, read_config
from dicom_node.settings.destinations import CStoreDestination
from dicom_node.settings.peers import Peer, TlsSettings
from dicom_node.store.database import Database
from dicom_node.store.tables import audit_spool

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).parent / "audit.rng"))
FRAME = re.compile(r"<(\d+)>1 (\S+Z) (\S+) dicom-node (\d+) DICOM\+RFC3881 - (<.*>)", re.DOTALL)


class Repository:
    """An audit repository on loopback: octet counting, each connection read to its end."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.lines: list[str] = []
        self._listening, self._context = socket.create_server(("127.0.0.1", 0)), context
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
            except OSError:
                if self._listening.fileno() < 0:
                    return
                continue
            with connection, connection.makefile("rb") as stream:
                while length := self._length(stream):
                    self.lines.append(stream.read(length).decode("ascii"))
                if isinstance(connection, ssl.SSLSocket):
                    connection.unwrap()

    @staticmethod
    def _length(stream: Any) -> int:
        digits = b""
        while (byte := stream.read(1)) not in (b" ", b""):
            digits += byte
        return int(digits or b"0")

    def settings(self, **more: Any) -> AuditSettings:
        return AuditSettings(host="127.0.0.1", port=self.port, **more)

    def close(self) -> None:
        self._listening.close()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    return authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture
def insp(tmp_path: Path) -> list[Path]:
    return write_scan(tmp_path, "Thorax Insp", 1)


@pytest.fixture
def repository() -> Iterator[Repository]:
    repository = Repository()
    yield repository
    repository.close()


def read(line: str) -> Any:
    """The message of a line, which must be as RFC 5424 and PS3.15 A.5.1 have it."""
    found = FRAME.fullmatch(line)
    assert found, line
    message = etree.fromstring(found[5])
    SCHEMA.assertValid(message)
    return message


def kind(line: str) -> str:
    """What a message tells, in short: the event and its type."""
    event = read(line).find("EventIdentification")
    names = [event.find("EventID"), *event.findall("EventTypeCode")]
    return ": ".join(name.get("originalText") for name in names)


def parties(line: str) -> list[str]:
    return [p.get("AlternativeUserID", "") for p in read(line).findall("ActiveParticipant")]


def transfers(lines: list[str]) -> dict[tuple[str, ...], dict[str, int]]:
    """SOP classes and counts of each transfer, by its study and both sides, the sender first."""
    found = {}
    for line in lines:
        message = read(line)
        if (study := message.find("ParticipantObjectIdentification")) is None:
            continue
        roles = [p.find("RoleIDCode").get("originalText") for p in message.findall("ActiveParticipant")]
        assert roles == ["Source Role ID", "Destination Role ID"]
        key = (study.get("ParticipantObjectID"), *parties(line))
        assert key not in found
        found[key] = {s.get("UID"): int(s.get("NumberOfInstances")) for s in study.iter("SOPClass")}
    return found


def spooled(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.scalars(sa.select(audit_spool.c.line).order_by(audit_spool.c.id)))


def wait_until(happened: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_day_of_a_node_is_told_to_its_repository(
    tmp_path: Path,
    insp: list[Path],
    repository: Repository,
) -> None:
    ae = AE("PACS")
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.1.2.1")
    pacs = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda e: 0)])
    assert pacs is not None
    there = CStoreDestination(
        "pacs", ae_title="PACS", host="127.0.0.1", port=pacs.server_address[1], objects=("sr",)
    )
    exp = write_scan(tmp_path, "Thorax Exp", 2)
    with running(config(tmp_path, destinations=(there,), audit=repository.settings())) as node:
        send(node.port, [*insp, *exp])
        until(node, done())
        until(node, lambda found: [d.state for d in found.deliveries] == ["SENT"])
        changed = dcmread(insp[0])
        changed.PatientName = "Doe^Jane"
        changed.save_as(tmp_path / "changed.dcm")
        assert send(node.port, [tmp_path / "changed.dcm"]) == [0xB000]
    pacs.shutdown()
    study = changed.StudyInstanceUID
    assert [kind(line) for line in repository.lines] == [
        "Application Activity: Application Start",
        "Security Alert: Other content under a stored SOP Instance UID",
        "DICOM Instances Transferred",
        "DICOM Instances Transferred",
        "Application Activity: Application Stop",
    ]
    assert transfers(repository.lines) == {
        (study, "AETITLES=CT1", "AETITLES=VQNODE"): {CT: 48},
        (study, "AETITLES=VQNODE", "AETITLES=PACS"): {"1.2.840.10008.5.1.4.1.1.88.34": 1},
    }
    assert not any("Doe" in line or changed.PatientID in line for line in repository.lines)
    assert spooled(Database(f"sqlite:///{tmp_path / 'storage' / 'node.db'}")) == []


def test_a_repository_that_is_away_holds_nothing_up_and_is_told_later(
    tmp_path: Path,
    insp: list[Path],
) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # accepts nothing
    port = silent.getsockname()[1]
    silent.close()
    settings = config(tmp_path, audit=AuditSettings(host="127.0.0.1", port=port))
    with running(settings) as node:
        assert set(send(node.port, insp)) == {0x0000}
        until(node, lambda found: found.studies and found.studies[0].state == "WAITING")
    repository = Repository()
    database = Database(settings.database_url)
    waiting = spooled(database)
    assert [kind(line) for line in waiting] == [
        "Application Activity: Application Start",
        "DICOM Instances Transferred",
        "Application Activity: Application Stop",
    ]
    Trail(database, repository.settings(), "VQNODE").send()  # of a process that knows nothing of the former
    wait_until(lambda: repository.lines == waiting)
    assert spooled(database) == []
    repository.close()
    database.close()


def test_a_full_spool_drops_the_oldest_and_says_so(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    trail = Trail(database, AuditSettings(host="127.0.0.1", port=1, max_messages=3), "VQNODE")
    for n in range(5):
        trail.alert("rejected", f"CT{n}", "127.0.0.1", "no allowed peer")
        trail.flush()
    with pytest.raises(Unavailable, match=r"the audit repository 127\.0\.0\.1 port 1 cannot be reached"):
        trail.send()
    assert [parties(line)[1] for line in spooled(database)] == [f"AETITLES=CT{n}" for n in (2, 3, 4)]
    assert "audit spool full: the 1 oldest messages dropped" in caplog.text


def test_who_is_rejected_a_thousand_times_makes_one_message(database: Database) -> None:
    trail = Trail(database, AuditSettings(host="127.0.0.1", port=1), "VQNODE")
    for n in range(1000):
        trail.alert("rejected", "EVIL", "192.0.2.1", "no allowed peer")
        trail.alert("no TLS", "", f"192.0.2.{n}", "certificate required")
    trail.flush()
    lines = spooled(database)
    assert len(lines) == 500
    texts = [read(line).findtext("EventIdentification/EventOutcomeDescription") for line in lines]
    assert texts[0] == "no allowed peer (1000 times)"


@contextmanager
def receiving(trail: Trail, **settings: Any) -> Iterator[int]:
    receiver = Receiver(
        ReceiveSettings(port=0, **settings), lambda one: "stored", lambda: 1e6, alert=trail.alert
    )
    yield receiver.start()
    receiver.stop()


def test_a_rejected_association_and_a_failed_handshake_are_alerts(
    database: Database,
    ours: TlsSettings,
) -> None:
    trail = Trail(database, AuditSettings(host="127.0.0.1", port=1), "VQNODE")
    ae = AE("EVIL<&>")
    ae.add_requested_context(CT)
    with receiving(trail, peers=(Peer("CT1"),)) as port:
        assert ae.associate("127.0.0.1", port).is_rejected
    with receiving(trail, tls=ours) as port, socket.create_connection(("127.0.0.1", port)) as plain:
        plain.sendall(b"\x01" * 100)
        with suppress(ConnectionResetError):
            plain.recv(100)

    def both_are_spooled() -> bool:
        trail.flush()
        return len(spooled(database)) == 2

    wait_until(both_are_spooled)
    rejected, no_tls = spooled(database)
    assert (kind(rejected), kind(no_tls)) == ("Security Alert: Node Authentication",) * 2
    assert parties(rejected) == ["AETITLES=VQNODE", "AETITLES=EVIL<&>"]
    reason = read(rejected).findtext("EventIdentification/EventOutcomeDescription")
    assert reason == "'EVIL<&>' at 127.0.0.1 is not an allowed peer"
    peer = read(no_tls).findall("ActiveParticipant")[1]
    assert (peer.get("NetworkAccessPointID"), peer.get("NetworkAccessPointTypeCode")) == ("127.0.0.1", "2")


def test_a_repository_by_tls_is_told_only_if_it_is_the_right_one(
    database: Database, ours: TlsSettings, tmp_path: Path
) -> None:
    strangers = authority(tmp_path, "strangers")
    repository = Repository(server_context(ours))
    for tls, reached in ((replace(ours, authorities=strangers.authorities), False), (ours, True)):
        trail = Trail(database, repository.settings(tls=tls), "VQNODE")
        trail.activity(started=True)
        if reached:
            trail.send()
        else:
            with pytest.raises(Unavailable, match="certificate verify failed"):
                trail.send()
    wait_until(lambda: len(repository.lines) == 2)
    assert spooled(database) == []
    repository.close()


def test_a_file_gets_a_line_a_message_for_its_owner_only(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    trail = Trail(database, AuditSettings(file=path), "VQNODE")
    for started in (True, False):
        trail.activity(started)
        trail.send()
    lines = path.read_text().splitlines()
    assert [kind(line) for line in lines] == [
        "Application Activity: Application Start",
        "Application Activity: Application Stop",
    ]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_stranger_calls_itself_breaks_no_message(database: Database) -> None:
    trail = Trail(database, AuditSettings(host="127.0.0.1", port=1), "VQNODE")
    trail.alert("rejected", 'EVIL\x00\x1b\n"<ü', "192.0.2.1", "\ud800\uffff]]>")
    trail.flush()
    (line,) = spooled(database)
    assert parties(line)[1] == 'AETITLES=EVIL\\x00\\x1b\\n"<ü'
    assert "\n" not in line


def test_without_an_audit_table_nothing_is_told(database: Database) -> None:
    trail = Trail(database, None, "VQNODE")
    trail.activity(started=True)
    trail.alert("rejected", "EVIL", "192.0.2.1", "no allowed peer")
    trail.send()
    assert spooled(database) == []


def test_the_schema_refuses_what_is_none_of_its_messages() -> None:
    assert not SCHEMA.validate(etree.fromstring("<AuditMessage/>"))


def test_the_settings_want_one_place(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text("[audit]\nfile = 'audit.log'\n")
    audit = read_config(path).audit
    assert audit is not None
    assert audit.file == tmp_path / "audit.log"
    for wrong in ("", "file = 'a'\nhost = 'b'\n", "host = 'b'\nport = 0\n"):
        path.write_text(f"[audit]\n{wrong}")
        with pytest.raises(Rejected):
            read_config(path)


def test_what_persons_do_and_what_retention_removes_is_told(database: Database) -> None:
    trail = Trail(database, AuditSettings(file=Path("audit.log")), "VQNODE")
    trail.operated("cancel: job 7 is cancelled")
    trail.exported("1.2.3")
    with database.writing() as connection:
        trail.deleted(connection, "1.2.4")
    told = spooled(database)
    assert [kind(line) for line in told] == [
        "Application Activity: An operator decided",
        "Export",
        "DICOM Study Deleted",
    ]
    person = read(told[0]).findall("ActiveParticipant")[1]
    assert (person.get("UserID"), person.get("UserIsRequestor")) == (getpass.getuser(), "true")
    assert read(told[0]).find(".//EventOutcomeDescription").text == "cancel: job 7 is cancelled"
    studies = [
        read(line).find("ParticipantObjectIdentification").get("ParticipantObjectID") for line in told[1:]
    ]
    assert studies == ["1.2.3", "1.2.4"]
