"""Real peers on loopback: dcmtk's commands and an Orthanc as PACS."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

#: Without it every dcmtk and Orthanc process takes 45 ms an image.
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def program(name: str) -> str:
    """Where a peer's program is; absent, the test is skipped, but fails in CI, which installs it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if found:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed")
    pytest.skip(f"{name} is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def dcmtk(name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of dcmtk's commands."""
    command = [program(name), *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    if check:
        assert done.returncode == 0, done.stderr
    return done


#: Orthanc's DICOMweb server, as a setting of `orthanc`.
DICOMWEB: dict[str, Any] = {
    "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
    "DicomWeb": {"Enable": True},
}


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    port: int
    http: int
    user: str = ""

    def get(self, path: str) -> Any:
        return json.loads(self.download(path))

    def post(self, path: str, body: Any) -> Any:
        return json.loads(self.download(path, "POST", json.dumps(body).encode()))

    def delete(self, path: str) -> None:
        self.download(path, "DELETE")

    def download(self, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", body, method=method)
        if self.user:
            secret = base64.b64encode(self.user.encode()).decode()
            request.add_header("Authorization", f"Basic {secret}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def instances(self) -> dict[str, str]:
        """Orthanc's identifier of each stored instance, by SOP Instance UID."""
        found = self.get("/instances?expand")
        return {i["MainDicomTags"]["SOPInstanceUID"]: i["ID"] for i in found}


@contextmanager
def orthanc(folder: Path, port: int = 0, user: str = "", **more: Any) -> Iterator[Orthanc]:
    """An Orthanc on loopback, its database in `folder`; ready when the block begins, gone when it ends.

    `user` is "name:password", without which nothing is answered; `more` are further settings of its
    configuration file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    peer = Orthanc(port or free_port(), free_port(), user)
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomAet": "ORTHANC",
        "DicomPort": peer.port,
        "HttpPort": peer.http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": bool(user),
        "RegisteredUsers": dict([user.split(":")]) if user else {},
        "UnknownSopClassAccepted": True,
        "OverwriteInstances": False,
        "Plugins": [],
        **more,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("ab") as log:
        command = [program("Orthanc"), str(folder / "orthanc.json")]
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log)
    try:
        _wait_ready(peer, process)
        yield peer
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_ready(peer: Orthanc, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        assert process.poll() is None, "Orthanc ended"
        try:
            peer.get("/system")
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("Orthanc does not answer")
