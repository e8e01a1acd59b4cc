"""TLS with real dcmtk: who has a certificate sends, who has none does not, who is silent blocks nobody."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from certificates import authority
from node_values import image
from pynetdicom import AE

from dicom_node.delivery import store_scu
from dicom_node.delivery.outcome import Parcel
from dicom_node.dicom.uids import VERIFICATION
from dicom_node.errors import Rejected
from dicom_node.network.storage_scp import Received, Receiver
from dicom_node.network.tls import client_context
from dicom_node.settings.config import ReceiveSettings, read_config
from dicom_node.settings.destinations import CStoreDestination
from dicom_node.settings.peers import TlsSettings

#: Port of a receiver, and what it got.
Listening = tuple[int, list[Received]]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    return authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    return authority(tmp_path_factory.mktemp("strangers"), "strangers")


@pytest.fixture
def listening(ours: TlsSettings) -> Iterator[Listening]:
    kept: list[Received] = []

    def keep(one: Received) -> Literal["stored"]:
        kept.append(one)
        return "stored"

    receiver = Receiver(ReceiveSettings(port=0, tls=ours), keep, lambda: 1e6)
    yield receiver.start(), kept
    receiver.stop()


def storescu(port: int, path: Path, *tls: str) -> int:
    return dcmtk("storescu", *tls, "127.0.0.1", str(port), str(path))


def dcmtk(name: str, *arguments: str) -> int:
    """The exit code of one of dcmtk's commands."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    command = [program, *arguments]
    return subprocess.run(command, env={"TCP_NODELAY": "1"}, capture_output=True, timeout=60).returncode


def shown(own: TlsSettings, authorities: Path) -> list[str]:
    return ["+tls", str(own.key), str(own.certificate), "+cf", str(authorities)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.dcm"
    image().save_as(path, enforce_file_format=True)
    return path


def test_storescu_with_a_certificate_of_our_authority_sends(
    listening: Listening, ours: TlsSettings, file: Path
) -> None:
    port, kept = listening
    assert storescu(port, file, *shown(ours, ours.authorities)) == 0
    assert [one.sop_instance_uid for one in kept] == ["1.2.3.4"]


def test_echoscu_is_answered_by_tls_only_and_only_to_a_certificate(
    listening: Listening, ours: TlsSettings, strangers: TlsSettings
) -> None:
    here = "127.0.0.1", str(listening[0])
    assert dcmtk("echoscu", *shown(ours, ours.authorities), *here) == 0
    assert dcmtk("echoscu", *shown(strangers, ours.authorities), *here) != 0
    assert dcmtk("echoscu", *here) != 0
    assert dcmtk("echoscu", *shown(ours, strangers.authorities), *here) != 0  # it does not trust us


def test_a_certificate_of_another_authority_none_and_plain_tcp_send_nothing(
    listening: Listening, ours: TlsSettings, strangers: TlsSettings, file: Path
) -> None:
    port, kept = listening
    assert storescu(port, file, *shown(strangers, ours.authorities)) != 0
    assert storescu(port, file, "+tla", "+cf", str(ours.authorities)) != 0
    assert storescu(port, file) != 0
    assert kept == []
    assert storescu(port, file, *shown(ours, ours.authorities)) == 0


def test_clients_that_connect_and_say_nothing_block_nobody(
    listening: Listening, ours: TlsSettings, file: Path
) -> None:
    port, kept = listening
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
    assert storescu(port, file, *shown(ours, ours.authorities)) == 0
    assert len(kept) == 1
    for one in silent:
        # still waited for: it was not by their going that the sender got its turn
        one.setblocking(False)
        with pytest.raises(BlockingIOError):
            one.recv(1)
        one.close()


@pytest.mark.parametrize("trusted", [True, False])
def test_our_client_speaks_only_to_a_server_of_its_authority(
    listening: Listening, ours: TlsSettings, strangers: TlsSettings, trusted: bool
) -> None:
    port, _ = listening
    side = TlsSettings(ours.certificate, ours.key, (ours if trusted else strangers).authorities)
    ae = AE("CT1")
    ae.add_requested_context(VERIFICATION)
    assoc = ae.associate("127.0.0.1", port, tls_args=(client_context(side), "127.0.0.1"))
    assert assoc.is_established is trusted
    if trusted:
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()


def test_older_than_tls_1_2_is_refused(listening: Listening, ours: TlsSettings) -> None:
    port, _ = listening
    context = client_context(ours)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        pytest.raises(OSError, match=r"(?i)alert protocol version"),
    ):
        context.wrap_socket(connection, server_hostname="127.0.0.1")


@pytest.fixture
def storescp(ours: TlsSettings, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """dcmtk's storescp as a PACS that wants certificates of our authority."""
    program = shutil.which("storescp")
    if program is None:
        pytest.skip("storescp is not installed")
    folder = tmp_path / "pacs"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [program, *shown(ours, ours.authorities), "-od", str(folder), str(port)]
    with subprocess.Popen(command, env={"TCP_NODELAY": "1"}, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        yield port, folder
        process.kill()


def pacs(port: int, tls: TlsSettings | None, host: str = "127.0.0.1") -> CStoreDestination:
    return CStoreDestination("pacs", ae_title="PACS", host=host, port=port, timeout=5.0, tls=tls)


def test_results_go_to_a_pacs_over_tls(storescp: tuple[int, Path], ours: TlsSettings, file: Path) -> None:
    port, folder = storescp
    parcel = Parcel(1, "1.2.3.4", image().SOPClassUID, file, 0.0, 0)
    assert store_scu.echo(pacs(port, ours), "VQNODE") == ""
    ((_, outcome),) = store_scu.send([parcel], pacs(port, ours), "VQNODE")
    assert outcome.verdict == "sent"
    assert len(list(folder.iterdir())) == 1


def test_why_tls_with_a_pacs_fails_is_said_and_the_object_is_tried_again(
    storescp: tuple[int, Path], ours: TlsSettings, strangers: TlsSettings, file: Path
) -> None:
    port, folder = storescp
    parcel = Parcel(1, "1.2.3.4", image().SOPClassUID, file, 0.0, 0)
    doubted = TlsSettings(ours.certificate, ours.key, strangers.authorities)
    unknown = TlsSettings(strangers.certificate, strangers.key, ours.authorities)
    gone = TlsSettings(file.with_name("gone.crt"), ours.key, ours.authorities)
    for destination, why in (
        (pacs(port, doubted), "in certificate chain"),
        (
            pacs(port, ours, "127.0.0.2"),
            "no TLS: IP address mismatch, certificate is not valid for '127.0.0.2'.",
        ),
        (pacs(port, unknown), "no TLS: the peer does not accept this node's certificate"),
        (pacs(port, gone), "gone.crt of a certificate cannot be read: No such file"),
        (pacs(1, ours), "cannot be reached"),
    ):
        ((_, outcome),) = store_scu.send([parcel], destination, "VQNODE")
        assert (outcome.verdict, why in outcome.reason) == ("later", True), outcome.reason
    assert list(folder.iterdir()) == []


def test_certificates_of_destinations_and_the_pacs_are_relative_to_the_file(tmp_path: Path) -> None:
    three = 'certificate = "a.crt"\nkey = "a.key"\nauthorities = "ca.crt"\n'
    place = 'name = "p"\nae_title = "P"\nhost = "h"\n'
    config = tmp_path / "node.toml"
    config.write_text(
        f"[[destinations]]\n{place}[destinations.tls]\n{three}[pacs]\n{place}[pacs.tls]\n{three}"
    )
    read = read_config(config)
    assert read.pacs is not None
    destination = read.destinations[0]
    assert isinstance(destination, CStoreDestination)
    for peer in (destination, read.pacs):
        assert peer.tls == TlsSettings(tmp_path / "a.crt", tmp_path / "a.key", tmp_path / "ca.crt")


def test_a_missing_certificate_is_said_before_anything_listens(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text("[receive.tls]\ncertificate = 'a.crt'\nkey = 'a.key'\nauthorities = 'ca.crt'\n")
    tls = read_config(config).receive.tls
    assert tls is not None
    assert tls.certificate == tmp_path / "a.crt"
    with pytest.raises(Rejected, match="No such file"):
        Receiver(ReceiveSettings(port=0, tls=tls), lambda one: "stored", lambda: 1e6)
