"""What `check-config` says of certificates and open doors before a node is started."""

from __future__ import annotations

import fcntl
import os
import socket
from dataclasses import replace
from pathlib import Path

from certificates import authority, sign

from dicom_node.node.check import check, open_to_all
from dicom_node.settings.config import AuditSettings, Config, JobSettings, MetricsSettings, ReceiveSettings
from dicom_node.settings.destinations import StowRsDestination
from dicom_node.settings.notify import SmtpChannel
from dicom_node.settings.peers import Peer, TlsSettings


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
