from __future__ import annotations

import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from running_node import config, running

from dicom_node.node.service_manager import notify

UNIT = Path(__file__).parents[3] / "deploy" / "dicom-node.service"


def test_the_service_manager_hears_that_the_node_is_ready_lives_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        heard: list[str] = []
        with running(replace(config(tmp_path), tick_seconds=0.3)):
            while not {"READY=1", "WATCHDOG=1"} <= {*heard} or heard.count("WATCHDOG=1") < 3:
                heard.append(manager.recv(100).decode())
        while heard[-1] != "STOPPING=1":
            heard.append(manager.recv(100).decode())


def test_without_a_service_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    notify("READY=1")  # one that is gone holds nothing up


def test_the_unit_exposes_little() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze (systemd) is not installed")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]
