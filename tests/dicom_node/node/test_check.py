"""What `check-config` says of certificates and open doors before a node is started."""

from __future__ import annotations

import fcntl
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from certificates import authority, sign

from dicom_node.node.check import check, open_to_all, tell_expiring
from dicom_node.settings.config import AuditSettings, Config, JobSettings, MetricsSettings, ReceiveSettings
from dicom_node.settings.destinations import CStoreDestination, StowRsDestination
from dicom_node.settings.notify import SmtpChannel
from dicom_node.settings.peers import Pacs, Peer, TlsSettings
from dicom_node.settings.web import WebSettings, WebTls
from dicom_node.store.database import Database
from dicom_node.store.durable import make_folder
from dicom_node.store.identity import join
from dicom_node.store.keys import node_key

#: A user who is not root.
NOBODY = 65534


def told(config: Config) -> list[tuple[str, bool]]:
    return [(one.problem, one.fatal) for one in check(config) if one.name == "certificates of receive"]


def with_certificates(tmp_path: Path, tls: TlsSettings) -> Config:
    return Config(storage=tmp_path / "storage", receive=ReceiveSettings(port=0, tls=tls))


def test_certificates_near_their_end_are_named_and_do_not_keep_the_node_from_starting(tmp_path: Path) -> None:
    ours = authority(tmp_path, "ours")
    found = told(with_certificates(tmp_path, ours))
    assert found[0] == ("", True)
    assert [fatal for _, fatal in found[1:]] == [False, False]  # its own and its authority's
    assert all("expires in 2 days" in problem for problem, _ in found[1:])
    long = sign(tmp_path, "long", ours, "/CN=long", days=400)
    assert str(long.certificate) not in "".join(p for p, _ in told(with_certificates(tmp_path, long)))


def test_certificates_that_cannot_be_used_are_fatal(tmp_path: Path) -> None:
    ours = authority(tmp_path, "ours")
    ((problem, fatal), *_) = told(with_certificates(tmp_path, replace(ours, key=tmp_path / "gone")))
    assert fatal
    assert (
        problem == f"the file {tmp_path / 'gone'} of a certificate cannot be read: No such file or directory"
    )


def test_without_certificates_nothing_is_said_of_them(tmp_path: Path) -> None:
    assert told(Config(storage=tmp_path / "storage", receive=ReceiveSettings(port=0))) == []


def test_a_door_that_is_open_to_anybody_is_named_and_keeps_no_node_from_starting(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    everywhere = ReceiveSettings(host="0.0.0.0", port=0)
    web = StowRsDestination("web", url="http://pacs.example.org/dicom-web", authorization_file=secret)
    found = open_to_all(Config(storage=tmp_path, receive=everywhere, destinations=(web,)))
    assert found == [
        "anybody who reaches 0.0.0.0 may send: name [[receive.peers]]",
        "results and its authorization go to web in the clear: use https://",
    ]
    known = replace(everywhere, peers=(Peer("CT1"),))
    safe = replace(web, url="https://pacs.example.org/dicom-web")
    here = replace(web, url="http://127.0.0.1:8042/dicom-web")
    assert open_to_all(Config(storage=tmp_path, receive=known, destinations=(safe,))) == []
    assert open_to_all(Config(storage=tmp_path, destinations=(here,))) == []
    told = [one for one in check(Config(storage=tmp_path, receive=everywhere)) if one.name == "who may send"]
    assert [(one.problem, one.fatal) for one in told] == [(found[0], False)]


def test_a_page_in_the_clear_and_a_certificate_of_it_that_expires_or_cannot_be_used_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clear = Config(storage=tmp_path, web=WebSettings(host="::"))
    assert open_to_all(clear) == [
        "passwords and images go to the page in the clear: name [web.tls], or the proxies before it"
    ]
    for web in (WebSettings(), WebSettings(host="::1"), WebSettings(host="::", proxies=("10.0.0.1",))):
        assert open_to_all(replace(clear, web=web)) == []
    own = authority(tmp_path, "page")
    settings = Config(storage=tmp_path, web=WebSettings(host="::", tls=WebTls(own.certificate, own.key)))
    assert open_to_all(settings) == []
    found = [(one.problem, one.fatal) for one in check(settings) if one.name == "certificates of web"]
    assert found[0] == ("", True)
    assert "expires in 2 days" in found[1][0]
    tell_expiring(settings)
    assert "TLS of web: " in caplog.text
    gone = WebTls(own.certificate, tmp_path / "gone")
    (problem, *_) = [
        one
        for one in check(replace(settings, web=WebSettings(tls=gone)))
        if one.name == "certificates of web"
    ]
    assert problem.fatal
    assert "the certificate of the page cannot be used" in problem.problem


def test_the_port_of_the_page_is_looked_at(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        config = Config(storage=tmp_path, receive=ReceiveSettings(port=0), web=WebSettings(port=number))
        (found,) = [one for one in check(config) if one.name.endswith("for the page")]
        assert found.fatal
        assert "cannot be listened on" in found.problem


def test_programs_that_are_missing_and_files_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    jobs = JobSettings(lobes_command=("no-such-program", "{ct}", "{lobes}"))
    audit = AuditSettings(file=tmp_path / "nowhere" / "audit.log")
    config = Config(storage=tmp_path, receive=ReceiveSettings(port=0), jobs=jobs, audit=audit)
    found = {one.name: one.problem for one in check(config)}
    assert (
        found["jobs.lobes_command"] == "the program no-such-program is not found: every job would be refused"
    )
    assert found[f"audit file {audit.file}"] == "not writable"


def test_a_channel_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    mail = SmtpChannel(
        "ops",
        host="127.0.0.1",
        port=1,
        sender="a@example.org",
        recipients=("b@example.org",),
        security="none",
    )
    config = Config(storage=tmp_path, receive=ReceiveSettings(port=0), notify=(mail,))
    (found,) = [one for one in check(config) if one.name.startswith("channel")]
    assert (found.problem, found.fatal) == ("127.0.0.1:1: Connection refused", False)


def test_a_check_beside_a_running_node_finds_its_own_ports_in_order(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        config = Config(
            storage=tmp_path, receive=ReceiveSettings(port=port), metrics=MetricsSettings(port=port)
        )
        alone = [one.problem for one in check(config) if one.name.startswith("port")]
        assert alone == ["cannot be listened on: Address already in use"] * 2
        lock = os.open(config.layout.lock, os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a running node does
        beside = [one.problem for one in check(config) if one.name.startswith("port")]
        os.close(lock)
    assert beside == ["", ""]


def test_checking_makes_nothing(tmp_path: Path) -> None:
    found = {one.name: one.problem for one in check(Config(storage=tmp_path / "a" / "b"))}
    assert found[f"storage {tmp_path / 'a' / 'b'}"] == ""
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    within = tmp_path / "file" / "storage"
    found = {one.name: one.problem for one in check(Config(storage=within))}
    assert found[f"storage {within}"] == f"cannot be made in {tmp_path / 'file'}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files that another user cannot open")
def test_what_root_leaves_in_the_storage_of_another_user_is_that_users(tmp_path: Path) -> None:
    settings = Config(storage=tmp_path / "storage")
    make_folder(settings.storage)
    database = Database(settings.database_url, prepare=True)
    join(settings.layout, database)
    database.close()
    for path in (settings.storage, *settings.storage.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    (settings.storage / "node.db-turn").unlink()
    before = {path for path in settings.storage.rglob("*") if not path.name.startswith("node.db")}
    check(settings)
    assert {p for p in settings.storage.rglob("*") if not p.name.startswith("node.db")} == before
    node_key(settings.layout)  # an operator's command: de-identify
    assert {path.stat().st_uid for path in settings.storage.rglob("*")} == {NOBODY}


def test_certificates_of_every_peer_that_the_node_calls_are_told_and_not_those_of_the_receiver_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("receive", "audit", "pacs", "destination")
    tls = {name: authority(tmp_path, name) for name in names}
    pacs = Pacs(name="pacs", ae_title="PACS", host="127.0.0.1", tls=tls["pacs"])
    there = CStoreDestination("there", ae_title="PACS", host="127.0.0.1", tls=tls["destination"])
    audit = AuditSettings(host="127.0.0.1", port=1, tls=tls["audit"])
    receive = ReceiveSettings(port=0, tls=tls["receive"])
    settings = Config(storage=tmp_path, receive=receive, pacs=pacs, audit=audit, destinations=(there,))
    tell_expiring(settings)
    told = [record.getMessage() for record in caplog.records]
    for name, where in (("audit", "audit"), ("pacs", "pacs"), ("destination", "destination there")):
        own = [sentence for sentence in told if sentence.startswith(f"TLS of {where}: ")]
        assert [str(path) in " ".join(own) for path in (tls[name].certificate, tls[name].authorities)] == [
            True
        ] * 2
    assert "receive" not in " ".join(told)
