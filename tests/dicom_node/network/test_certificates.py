"""Certificates that are revoked, named, near their end or renewed: with real openssl and real handshakes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from certificates import authority, revocation_list, sign
from pynetdicom import AE

from dicom_node.dicom.uids import VERIFICATION
from dicom_node.errors import Rejected
from dicom_node.network import tls
from dicom_node.network.storage_scp import Receiver
from dicom_node.network.tls import certificate_names, client_context, expiring, server_context
from dicom_node.settings.config import ReceiveSettings, read_config
from dicom_node.settings.peers import Peer, TlsSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ours(folder: Path) -> TlsSettings:
    return authority(folder, "ours")


@pytest.fixture(scope="module")
def ct1(folder: Path, ours: TlsSettings) -> TlsSettings:
    return sign(folder, "ct1", ours, "/O=Hospital, Ward/CN=ct1", "DNS:CT1.hospital.example,IP:127.0.0.1")


@pytest.fixture(scope="module")
def ct2(folder: Path, ours: TlsSettings) -> TlsSettings:
    return sign(folder, "ct2", ours, "/CN=ct2")


@contextmanager
def listening(
    settings: TlsSettings, peers: tuple[Peer, ...] = (), alerts: list[Any] | None = None
) -> Iterator[int]:
    told: list[Any] = [] if alerts is None else alerts
    receiver = Receiver(
        ReceiveSettings(port=0, tls=settings, peers=peers),
        lambda one: "stored",
        lambda: 1e6,
        alert=lambda *one: told.append(one),
    )
    yield receiver.start()
    receiver.stop()


def gets_in(port: int, own: TlsSettings, title: str = "CT1") -> bool:
    """Whether a client with this certificate is answered a C-ECHO."""
    ae = AE(title)
    ae.add_requested_context(VERIFICATION)
    own = replace(own, crl=None)
    assoc = ae.associate("127.0.0.1", port, tls_args=(client_context(own), "127.0.0.1"))
    if not assoc.is_established:
        return False
    status = assoc.send_c_echo()
    assoc.release()
    return bool("Status" in status and status.Status == 0x0000)


@pytest.mark.parametrize("where", ["a file of its own", "the file of authorities"])
def test_a_revoked_certificate_is_refused_and_others_are_not(
    where: str, tmp_path: Path, ours: TlsSettings, ct1: TlsSettings, ct2: TlsSettings
) -> None:
    crl = revocation_list(tmp_path / "ca", ours, [ct1])
    if where == "a file of its own":
        settings = replace(ours, crl=crl)
    else:
        both = tmp_path / "both.pem"
        both.write_bytes(ours.authorities.read_bytes() + crl.read_bytes())
        settings = replace(ours, authorities=both)
    alerts: list[Any] = []
    with listening(settings, alerts=alerts) as port:
        assert not gets_in(port, ct1)
        assert gets_in(port, ct2)
    assert [kind for kind, *_ in alerts] == ["no TLS"]


def test_dcmtk_with_a_revoked_certificate_does_not_get_in_and_the_log_says_why(
    tmp_path: Path, ours: TlsSettings, ct1: TlsSettings, ct2: TlsSettings, caplog: pytest.LogCaptureFixture
) -> None:
    program = shutil.which("echoscu")
    if program is None:
        pytest.skip("echoscu is not installed")
    crl = revocation_list(tmp_path / "ca", ours, [ct1])

    def echo(port: int, own: TlsSettings) -> int:
        shown = ["+tls", str(own.key), str(own.certificate), "+cf", str(ours.authorities)]
        command = [program, *shown, "127.0.0.1", str(port)]
        return subprocess.run(command, capture_output=True, timeout=60).returncode

    with listening(replace(ours, crl=crl)) as port:
        assert echo(port, ct1) != 0
        assert echo(port, ct2) == 0
    assert "certificate revoked" in caplog.text


def test_an_authority_without_a_list_or_with_one_out_of_date_is_not_believed(
    tmp_path: Path, ours: TlsSettings, ct2: TlsSettings, caplog: pytest.LogCaptureFixture
) -> None:
    others = authority(tmp_path, "others")
    crl = revocation_list(tmp_path / "ca", others, [])
    both = tmp_path / "both.pem"
    both.write_bytes(ours.authorities.read_bytes() + others.authorities.read_bytes())
    with listening(replace(ours, authorities=both, crl=crl)) as port:
        assert not gets_in(port, ct2)
        assert gets_in(port, replace(others, authorities=ours.authorities))
    assert "unable to get certificate CRL" in caplog.text


def test_a_file_of_lists_without_a_list_is_refused_at_the_start(ours: TlsSettings) -> None:
    with pytest.raises(Rejected, match="has none"):
        server_context(replace(ours, crl=ours.authorities))


@pytest.mark.parametrize("name", ["ct1", "ct1.hospital.example", "CN=ct1,O=Hospital\\, Ward"])
def test_a_peer_must_show_the_certificate_that_bears_its_name(
    name: str, ours: TlsSettings, ct1: TlsSettings, ct2: TlsSettings
) -> None:
    alerts: list[Any] = []
    with listening(ours, (Peer("CT1", certificate=name), Peer("CT2", certificate="ct2")), alerts) as port:
        assert gets_in(port, ct1, "CT1")
        assert not gets_in(port, ct2, "CT1")
        assert gets_in(port, ct2, "CT2")
        assert not gets_in(port, ct1, "CT2")
    assert [(kind, title) for kind, title, *_ in alerts] == [("rejected", "CT1"), ("rejected", "CT2")]
    assert "shows another's certificate" in alerts[0][3]


def names(own: TlsSettings) -> frozenset[str]:
    """Of a certificate, by a handshake of two sockets here."""
    here, there = socket.socketpair()

    def shake() -> None:
        client_context(own).wrap_socket(there, server_hostname="127.0.0.1")

    client = threading.Thread(target=shake)
    client.start()
    with server_context(own).wrap_socket(here, server_side=True) as connection:
        client.join()
        return certificate_names(connection.getpeercert())


def test_the_names_of_a_certificate_are_its_subject_common_name_and_alternative_names(
    ct1: TlsSettings,
) -> None:
    assert names(ct1) == {"ct1", "CN=ct1,O=Hospital\\, Ward", "CT1.hospital.example", "127.0.0.1"}


def test_without_tls_no_peer_can_show_a_certificate() -> None:
    with pytest.raises(Rejected, match="needs the table"):
        ReceiveSettings(peers=(Peer("CT1", certificate="ct1"),))


def test_renewed_files_are_used_without_a_restart_and_wrong_ones_are_not(
    tmp_path: Path, ours: TlsSettings, ct2: TlsSettings, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.0)
    caplog.set_level("INFO")
    own = TlsSettings(tmp_path / "node.crt", tmp_path / "node.key", tmp_path / "ca.crt")
    for mine, source in zip(own.files, ours.files, strict=True):
        mine.write_bytes(source.read_bytes())
    strangers = authority(tmp_path, "strangers")
    with listening(own) as port:
        assert serial(port, ours) == serial_of(ours)
        own.key.write_bytes(strangers.key.read_bytes())  # half of a renewal
        assert serial(port, ours) == serial_of(ours)
        assert "the ones before stay in use" in caplog.text
        own.certificate.write_bytes(strangers.certificate.read_bytes())
        assert serial(port, ours) == serial_of(strangers)
        own.authorities.write_bytes(strangers.authorities.read_bytes())
        assert not gets_in(port, replace(ct2, authorities=strangers.authorities))
        assert gets_in(port, strangers)


def serial(port: int, own: TlsSettings) -> str:
    """The serial number of the certificate that is shown."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}"]
    command += ["-cert", str(own.certificate), "-key", str(own.key)]
    shown = subprocess.run(command, input=b"", capture_output=True, timeout=30, check=False).stdout
    return subprocess.run(
        ["openssl", "x509", "-noout", "-serial"], input=shown, capture_output=True, check=True
    ).stdout.decode()


def serial_of(own: TlsSettings) -> str:
    command = ["openssl", "x509", "-noout", "-serial", "-in", str(own.certificate)]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode()


def test_what_expires_soon_or_has_expired_is_told_with_the_date_openssl_reads(
    tmp_path: Path, ours: TlsSettings, ct1: TlsSettings
) -> None:
    crl = revocation_list(tmp_path / "ca", ours, [ct1], days=60)
    own = sign(tmp_path, "long", ours, "/CN=long", days=40 * 365)  # beyond 2050: another form of date
    settings = TlsSettings(own.certificate, own.key, ours.authorities, crl)
    now = time.time()
    (sentence,) = expiring(settings, now)
    assert f"the certificate in {ours.authorities} expires in 2 days" in sentence
    assert openssl_date(ours.authorities, "x509", "-enddate") in sentence
    late = expiring(settings, now + 61 * 86400)
    assert [("has expired" in one, str(crl) in one) for one in late] == [(True, False), (True, True)]
    assert openssl_date(crl, "crl", "-nextupdate") in late[1]
    last = expiring(settings, now + 39.99 * 365 * 86400)
    assert "expires in" in last[0]
    assert openssl_date(own.certificate, "x509", "-enddate") in last[0]


def openssl_date(path: Path, kind: str, which: str) -> str:
    command = ["openssl", kind, "-noout", which, "-in", str(path)]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("=", 1)[1].strip()
    return datetime.strptime(text, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC).strftime("%Y-%m-%d %H:%M UTC")


def test_what_is_near_its_end_is_logged_while_the_node_serves(
    ours: TlsSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(ours):
        end = time.monotonic() + 10
        while "expires in 2 days" not in caplog.text:
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\x00\xff"]
)
def test_a_file_that_is_none_has_no_dates(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.pem"
    path.write_text(text, encoding="latin-1")
    assert expiring(TlsSettings(path, path, path), 1e12) == []
    assert expiring(TlsSettings(tmp_path / "gone", path, path), 1e12) == []


def test_every_file_of_the_settings_is_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        "[receive.tls]\ncertificate = 'a.crt'\nkey = 'a.key'\nauthorities = 'ca.crt'\ncrl = 'ca.crl'\n"
        "[[receive.peers]]\nae_title = 'CT1'\ncertificate = 'ct1'\n"
    )
    read = read_config(config).receive
    assert read.tls is not None
    assert read.tls.files == tuple(tmp_path / name for name in ("a.crt", "a.key", "ca.crt", "ca.crl"))
    assert read.peers == (Peer("CT1", certificate="ct1"),)
