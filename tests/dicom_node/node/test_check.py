"""What `check-config` says of certificates and open doors before a node is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from certificates import authority, sign

from dicom_node.node.check import check, open_to_all
from dicom_node.settings.config import Config, ReceiveSettings
from dicom_node.settings.destinations import StowRsDestination
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
    assert "No such file" in problem


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
