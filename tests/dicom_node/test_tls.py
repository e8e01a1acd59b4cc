"""TLS with real dcmtk: who has a certificate sends, who has none does not, who is silent blocks nobody."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from test_receive import image

from dicom_node.config import ReceiveSettings, TlsSettings, read_config
from dicom_node.errors import Rejected
from dicom_node.receive import Received, Receiver
from dicom_node.tls import client_context


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def authority(folder: Path, name: str) -> TlsSettings:
    """An authority, and a certificate of it for this machine."""
    key, root = folder / f"{name}-ca.key", folder / f"{name}-ca.crt"
    new = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]
    openssl("req", "-x509", *new, "-keyout", str(key), "-out", str(root), "-subj", f"/CN={name}")
    own = TlsSettings(folder / f"{name}.crt", folder / f"{name}.key", root)
    request, names = folder / f"{name}.csr", folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("req", *new[:3], "-keyout", str(own.key), "-out", str(request), "-subj", "/CN=localhost")
    sign = ["-CA", str(root), "-CAkey", str(key), "-CAcreateserial", "-extfile", str(names), "-days", "2"]
    openssl("x509", "-req", "-in", str(request), *sign, "-out", str(own.certificate))
    return own


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    return authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    return authority(tmp_path_factory.mktemp("strangers"), "strangers")


@pytest.fixture
def listening(ours: TlsSettings) -> Iterator[tuple[int, list[Received]]]:
    kept: list[Received] = []
    receiver = Receiver(
        ReceiveSettings(port=0, tls=ours), lambda one: (kept.append(one), "stored")[1], lambda: 1e6
    )
    yield receiver.start(), kept
    receiver.stop()


def storescu(port: int, path: Path, *tls: str) -> int:
    program = shutil.which("storescu")
    if program is None:
        pytest.skip("storescu is not installed")
    command = [program, *tls, "127.0.0.1", str(port), str(path)]
    return subprocess.run(command, env={"TCP_NODELAY": "1"}, capture_output=True, timeout=60).returncode


def shown(own: TlsSettings, authorities: Path) -> list[str]:
    return ["+tls", str(own.key), str(own.certificate), "+cf", str(authorities)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.dcm"
    image().save_as(path, enforce_file_format=True)
    return path


def test_storescu_with_a_certificate_of_our_authority_sends(listening, ours, file) -> None:
    port, kept = listening
    assert storescu(port, file, *shown(ours, ours.authorities)) == 0
    assert [one.sop_instance_uid for one in kept] == ["1.2.3.4"]


def test_a_certificate_of_another_authority_none_and_plain_tcp_send_nothing(
    listening, ours, strangers, file
) -> None:
    port, kept = listening
    assert storescu(port, file, *shown(strangers, ours.authorities)) != 0
    assert storescu(port, file, "+tla", "+cf", str(ours.authorities)) != 0
    assert storescu(port, file) != 0
    assert kept == []
    assert storescu(port, file, *shown(ours, ours.authorities)) == 0


def test_clients_that_connect_and_say_nothing_block_nobody(listening, ours, file) -> None:
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
def test_our_client_speaks_only_to_a_server_of_its_authority(listening, ours, strangers, trusted) -> None:
    port, _ = listening
    side = TlsSettings(ours.certificate, ours.key, (ours if trusted else strangers).authorities)
    ae = AE("CT1")
    ae.add_requested_context(Verification)
    assoc = ae.associate("127.0.0.1", port, tls_args=(client_context(side), "127.0.0.1"))
    assert assoc.is_established is trusted
    if trusted:
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()


def test_older_than_tls_1_2_is_refused(listening, ours) -> None:
    port, _ = listening
    context = client_context(ours)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        pytest.raises(OSError, match=r"(?i)alert protocol version"),
    ):
        context.wrap_socket(connection, server_hostname="127.0.0.1")


def test_a_missing_certificate_is_said_before_anything_listens(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text("[receive.tls]\ncertificate = 'a.crt'\nkey = 'a.key'\nauthorities = 'ca.crt'\n")
    tls = read_config(config).receive.tls
    assert tls is not None
    assert tls.certificate == tmp_path / "a.crt"
    with pytest.raises(Rejected, match="No such file"):
        Receiver(ReceiveSettings(port=0, tls=tls), lambda one: "stored", lambda: 1e6)
