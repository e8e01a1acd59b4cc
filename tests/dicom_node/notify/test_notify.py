"""Messages to people over real sockets: signed, without the patient, tried again, and nothing lost or told twice."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from certificates import authority
from node_values import make_pair
from peers import free_port

from analysis.parameters import Parameters
from dicom_node.delivery import queue as deliver
from dicom_node.delivery.outcome import Outcome, Parcel
from dicom_node.errors import Rejected
from dicom_node.jobs import queue as jobs
from dicom_node.notify import conditions, smtp, webhook
from dicom_node.notify import queue as notices
from dicom_node.notify.kinds import WAYS
from dicom_node.notify.texts import TEXTS, Told
from dicom_node.settings.config import Config, ReceiveSettings
from dicom_node.settings.destinations import FolderDestination
from dicom_node.settings.notify import EVENTS, Channel, SmtpChannel, WebhookChannel
from dicom_node.store import events, tally
from dicom_node.store.database import Database
from dicom_node.store.events import Event
from dicom_node.store.tables import job, notification, result
from dicom_node.studies import queue as studies

SECRET = base64.b64encode(bytes(range(32))).decode()


class Hook(BaseHTTPRequestHandler):
    """Keep what is posted, and answer as the server says."""

    server: HookServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((dict(self.headers.items()), body))
        if self.server.taken is not None:
            self.server.taken.set()
        self.server.hold.wait(20)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class HookServer(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.posted: list[tuple[dict[str, str], bytes]] = []
        self.status, self.hold, self.taken = 200, threading.Event(), threading.Event()
        self.hold.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


@pytest.fixture
def hook() -> Iterator[HookServer]:
    server = HookServer()
    yield server
    server.hold.set()
    server.shutdown()


def channel(tmp_path: Path, hook: HookServer, **changes: Any) -> WebhookChannel:
    (tmp_path / "secret").write_text(f"whsec_{SECRET}\n")
    values = {"url": hook.url, "secret_file": tmp_path / "secret", "timeout": 5.0, **changes}
    return WebhookChannel("chat", **values)


def happen(database: Database, *kinds: str, at: float = 1.0) -> None:
    with database.writing() as connection:
        for n, kind in enumerate(kinds):
            events.record(connection, Event(at, kind, f"1.2.{n}", n, "pacs", "Doe^Jane typed this"))


def rows(database: Database) -> list[Any]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(notification).order_by(notification.c.id)))


def states(database: Database) -> list[str]:
    return [row.state for row in rows(database)]


def tell(database: Database, settings: Channel, at: float = 100.0) -> None:
    notices.notify(database, settings, "VQNODE", clock=lambda: at)


def test_every_event_has_a_text_and_a_text_quotes_nobody() -> None:
    assert set(TEXTS) == set(EVENTS)
    for kind in EVENTS:
        text = Told(kind, 0.0, "1.2.3", 7, "the disk").text
        assert text.endswith(".")
        assert "{" not in text


def test_a_signature_is_that_of_the_standard() -> None:
    # the example of https://github.com/standard-webhooks/standard-webhooks
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = webhook.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_new_channel_tells_only_of_what_happens_from_then_on(
    database: Database, tmp_path: Path, hook: HookServer
) -> None:
    happen(database, "failed", "dead")
    settings = channel(tmp_path, hook)
    tell(database, settings)
    assert hook.posted == []
    happen(database, "failed")
    tell(database, settings)
    assert len(hook.posted) == 1


def test_a_webhook_is_signed_and_holds_uids_and_no_reason(
    database: Database, tmp_path: Path, hook: HookServer
) -> None:
    settings = channel(tmp_path, hook)
    tell(database, settings)
    happen(database, "refused", "decided", "started")
    tell(database, settings)
    ((headers, body),) = hook.posted
    own = {name.lower(): value for name, value in headers.items()}
    at = int(own["webhook-timestamp"])
    expected = webhook.signature(base64.b64decode(SECRET), own["webhook-id"], body, at)
    assert own["webhook-signature"] == expected["webhook-signature"]
    assert abs(at - time.time()) < 60
    content = json.loads(body)
    assert content["type"] == "dicom-node.events"
    assert [(e["kind"], e["study"]) for e in content["data"]["events"]] == [("refused", "1.2.0")]
    assert b"Doe" not in body
    assert states(database) == ["SENT"]


def test_only_the_events_that_a_channel_names_are_told(
    database: Database, tmp_path: Path, hook: HookServer
) -> None:
    settings = channel(tmp_path, hook, events=("dead",))
    tell(database, settings)
    happen(database, "result", "dead", "disk")
    tell(database, settings)
    assert [json.loads(body)["data"]["subject"] for _, body in hook.posted] == ["VQNODE: delivery given up"]


def test_what_is_not_taken_is_tried_again_under_one_identity_and_given_up_in_the_end(
    database: Database, tmp_path: Path, hook: HookServer
) -> None:
    settings = channel(tmp_path, hook, max_age_hours=1.0)
    tell(database, settings, 0.0)
    happen(database, "failed")
    hook.status = 500
    for at in (10.0, 11.0, 100.0, 300.0):  # at 11 s it is not due
        tell(database, settings, at)
    assert states(database) == ["QUEUED"]
    assert rows(database)[0].reason == "HTTP 500 Internal Server Error"
    assert rows(database)[0].attempts == len(hook.posted) == 3
    assert len({headers["webhook-id"] for headers, _ in hook.posted}) == 1
    assert len({body for _, body in hook.posted}) == 1
    tell(database, settings, 10_000.0)
    assert states(database) == ["DEAD"]
    assert rows(database)[0].reason.startswith("given up after 1 h: HTTP 500")
    with database.reading() as connection:
        counted = tally.read(connection)["notifications"]
    assert counted == {("chat", "retried"): 3, ("chat", "dead"): 1}


def test_a_receiver_that_wants_no_more_gets_no_more_of_it(
    database: Database, tmp_path: Path, hook: HookServer
) -> None:
    settings = channel(tmp_path, hook)
    tell(database, settings)
    happen(database, "failed")
    hook.status = 410
    tell(database, settings)
    assert states(database) == ["DEAD"]


def test_a_digest_waits_and_is_one_message(database: Database, tmp_path: Path, hook: HookServer) -> None:
    settings = channel(tmp_path, hook, digest_minutes=1.0)
    tell(database, settings, 0.0)
    happen(database, "failed", "failed", "result")
    tell(database, settings, 10.0)
    happen(database, "disk")
    tell(database, settings, 65.0)
    assert hook.posted == []
    tell(database, settings, 71.0)
    ((_, body),) = hook.posted
    found = json.loads(body)["data"]
    assert found["subject"] == "VQNODE: 2 x job failed, result ready, disk nearly full"
    assert len(found["events"]) == 4
    assert states(database) == ["SENT"] * 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "secret_file: No such file or directory"),
        ("not base64!", "secret_file: it holds no base64"),
        ("AAAA", "secret_file: it holds 3 bytes, not 24 to 64"),
    ],
)
def test_a_secret_that_cannot_be_used_is_named_and_the_message_waits(
    content: str | None, message: str, database: Database, tmp_path: Path, hook: HookServer
) -> None:
    settings = channel(tmp_path, hook)
    tell(database, settings)
    happen(database, "failed")
    if content is None:
        settings.secret_file.unlink()
    else:
        settings.secret_file.write_text(content)
    assert webhook.probe(settings) == message
    tell(database, settings)
    assert (states(database), rows(database)[0].reason) == (["QUEUED"], message)


def test_a_bug_in_a_channel_is_a_reason_and_not_the_end(
    database: Database, tmp_path: Path, hook: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = channel(tmp_path, hook)
    tell(database, settings)
    happen(database, "failed")
    nothing: dict[str, bytes] = {}
    monkeypatch.setattr(webhook, "read_secret", lambda _: nothing["secret"])
    tell(database, settings)
    assert rows(database)[0].reason == "internal error: KeyError"


class Mailbox:
    """What a mail server took; it refuses whom and what it is told to."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.refuse: dict[str, str] = {}
        self.answer = "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return self.answer


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=(port := free_port()))
    controller.start()
    yield box, port
    controller.stop()


def mail(port: int, **changes: Any) -> SmtpChannel:
    values = {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "sender": "node@example.org",
        "recipients": ("it@example.org",),
        "timeout": 5.0,
        **changes,
    }
    return SmtpChannel("operators", **values)


def test_a_mail_has_an_identity_a_subject_and_no_reason(
    database: Database, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    settings = mail(port)
    assert smtp.probe(settings) == ""
    tell(database, settings, 0.0)
    happen(database, "refused")
    box.answer = "451 later"
    tell(database, settings, 100.0)
    box.answer = "250 OK"
    tell(database, settings, 200.0)
    first, second = box.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert re.fullmatch(r"<[0-9a-f]{32}@example\.org>", first["Message-ID"])
    assert first.as_bytes() == second.as_bytes()
    assert (first["Subject"], first["To"]) == ("VQNODE: study refused", "it@example.org")
    assert first["Auto-Submitted"] == "auto-generated"
    assert "Study 1.2.0 (job 0) was refused" in " ".join(first.get_content().split())
    assert "Doe" not in first.as_string()
    assert states(database) == ["SENT"]


@pytest.mark.parametrize(
    ("refuse", "state", "reason"),
    [
        ({"it@example.org": "550 no such user"}, "DEAD", "every recipient was refused (550)"),
        ({"it@example.org": "450 greylisted"}, "QUEUED", "every recipient was refused (450)"),
    ],
)
def test_a_mail_for_nobody_is_given_up_and_a_mail_for_later_is_not(
    refuse: dict[str, str], state: str, reason: str, database: Database, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    box.refuse = refuse
    settings = mail(port)
    tell(database, settings)
    happen(database, "failed")
    tell(database, settings)
    assert [(row.state, row.reason) for row in rows(database)] == [(state, reason)]


def test_a_mail_that_some_take_is_sent_and_not_sent_to_them_again(
    database: Database, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    box.refuse = {"gone@example.org": "550 no such user"}
    settings = mail(port, recipients=("it@example.org", "gone@example.org"))
    tell(database, settings)
    happen(database, "failed")
    tell(database, settings)
    assert [(row.state, row.reason) for row in rows(database)] == [
        ("SENT", "taken, but not for 1 recipients")
    ]


def test_a_mail_server_without_encryption_gets_nothing_where_it_is_asked_for(
    database: Database, mailbox: tuple[Mailbox, int], tmp_path: Path
) -> None:
    box, port = mailbox
    assert "SMTPNotSupportedError" in smtp.probe(mail(port, security="starttls"))
    assert smtp.probe(mail(port, security="tls", timeout=2.0)) != ""
    assert box.mails == []
    assert smtp.probe(mail(1)) == "127.0.0.1:1: Connection refused"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipients": ()}, "needs recipients"),
        ({"sender": "a@b\nBcc: c@d"}, "an e-mail address is a name"),
        ({"user": "node"}, "given together or not at all"),
        ({"events": ("births",)}, "events must be some of result, refused"),
        ({"digest_minutes": -1.0}, "digest_minutes 0 or more"),
        ({"host": ""}, "needs a host"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Rejected, match=message):
        mail(25, **changes)


def test_decisions_and_ends_are_events_in_their_own_transaction(database: Database) -> None:
    now = 50.0
    with database.writing() as connection:
        studies.touch(database, connection, "1.2.3", 1.0, 1.0)
        seen = studies.Due("1.2.3", 2.0, "RECEIVING", 1.0)
        assert studies.settle(connection, seen, "REFUSED", "no phase", now, 10.0)
        number = jobs.create(database, connection, make_pair(), Parameters(), "1", now)
    assert number is not None
    for name in ("start", "fail", "retry", "start", "finish", "remake", "start", "finish"):
        with database.writing() as connection:
            assert jobs.move(connection, number, name, now)
    with suppress(RuntimeError), database.writing() as connection:
        jobs.move(connection, number, "remake", now)
        raise RuntimeError
    with database.reading() as connection:
        kinds = [e.kind for e in events.timeline(connection, "1.2.3")]
    assert kinds == ["refused", "started", "failed", "job", "started", "result", "job", "started"]


def test_objects_of_a_job_that_are_given_up_are_one_event_until_it_is_retried(
    database: Database, tmp_path: Path
) -> None:
    row = {
        "study_uid": "1.2",
        "revision": 1,
        "fingerprint": "f",
        "pair": "",
        "parameters": "",
        "created": 0.0,
    }
    share = FolderDestination("share", folder=tmp_path)

    def dead(uid: str, number: int, created: float) -> None:
        parcel = Parcel(number, uid, "1", tmp_path / uid, created, 0, 1)
        deliver._record(database, share, parcel, Outcome("never", "no"), 9.0)

    with database.writing() as connection:
        connection.execute(sa.insert(job).values(**row, state="DONE", since=0.0, due_at=0.0))
        for uid in ("1.1", "1.2"):
            values = {"sop_instance_uid": uid, "sop_class_uid": "1", "path": uid, "job_id": 1}
            connection.execute(sa.insert(result).values(**values))
        deliver.queue(database, connection, ["1.1", "1.2"], ["share"], 7.0)
    dead("1.1", 1, 7.0)
    dead("1.2", 2, 7.0)
    assert deliver.retry(database, 1, 20.0) == 2
    dead("1.1", 1, 20.0)
    with database.reading() as connection:
        told = [e for e in events.timeline(connection, "1.2") if e.kind == "dead"]
    assert [e.text for e in told] == ["job 1: given up at share: no"] * 2


def test_a_full_disk_is_told_once_a_day_and_a_certificate_at_each_step(
    database: Database, tmp_path: Path
) -> None:
    ours = authority(tmp_path, "ours")  # it ends in 2 days
    full = ReceiveSettings(min_free_mb=10**9, tls=ours)
    config = Config(storage=tmp_path, receive=full)
    now, day = time.time(), 86400.0
    for at in (now, now + 60, now + 1.5 * day, now + 30 * day):
        conditions.look(config, database, at)
    with database.reading() as connection:
        told = [(e.kind, e.about) for e in events.timeline(connection, "")]
    assert [kind for kind, _ in told].count("disk") == 3
    about = [about for kind, about in told if kind == "certificate"]
    assert len(about) == 3  # within 7 days, within one, and over
    assert about[0].startswith("the certificate of receive expires on ")
    assert about[2].startswith("the certificate of receive has expired on ")


CHILD = """
import sys, time
from pathlib import Path
from dicom_node.notify import queue
from dicom_node.settings.notify import WebhookChannel
from dicom_node.store.database import Database
url, folder = sys.argv[1], Path(sys.argv[2])
settings = WebhookChannel("chat", url=url, secret_file=folder / "secret", retry_seconds=0.01, max_retry_seconds=0.01)
database = Database(f"sqlite:///{folder / 'node.db'}")
while True:
    queue.notify(database, settings, "VQNODE")
    time.sleep(0.01)
"""


def test_kill_9_in_the_middle_loses_nothing_and_tells_nothing_twice(tmp_path: Path, hook: HookServer) -> None:
    database = Database(f"sqlite:///{tmp_path / 'node.db'}", prepare=True)
    settings = channel(tmp_path, hook)
    tell(database, settings)
    command = [sys.executable, "-c", CHILD, hook.url, str(tmp_path)]
    for n in range(3):
        happen(database, "failed", "result", at=float(n))
        hook.hold.clear()
        hook.taken.clear()
        child = subprocess.Popen(command)
        assert hook.taken.wait(30)  # the message is at the receiver, and its answer is not at the node
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        hook.hold.set()
    child = subprocess.Popen(command)
    end = time.monotonic() + 30
    while states(database) != ["SENT"] * 6:
        assert time.monotonic() < end, rows(database)
        time.sleep(0.05)
    child.kill()
    child.wait()
    by_id: dict[str, set[bytes]] = {}
    for headers, body in hook.posted:
        by_id.setdefault(headers["webhook-id"], set()).add(body)
    assert all(len(bodies) == 1 for bodies in by_id.values())
    told = [e for (body,) in by_id.values() for e in json.loads(body)["data"]["events"]]
    assert sorted((e["at"], e["kind"]) for e in told) == sorted(
        (f"1970-01-01T00:00:0{n}Z", kind) for n in range(3) for kind in ("failed", "result")
    )
    assert len(hook.posted) > len(by_id)  # some did come again, as the same message


def test_every_kind_of_channel_has_its_row() -> None:
    assert set(WAYS) == set(Channel.__subclasses__())
    assert replace(mail(25), name="x").place == "127.0.0.1:25"
