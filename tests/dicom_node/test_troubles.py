"""The log stays short: a trouble is two lines, other libraries are silent, and every line can be read by a machine."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from peers import free_port
from queued import queue, states

from dicom_node.commands.logs import configure_logging
from dicom_node.delivery import queue as deliver
from dicom_node.settings.destinations import CStoreDestination, FolderDestination
from dicom_node.store.database import Database
from dicom_node.store.events import timeline
from dicom_node.troubles import MOST, Troubles

COMMAND = [sys.executable, "-c", "from dicom_node.commands import main; main()"]
LOG = logging.getLogger("dicom_node.test")


def test_a_trouble_is_a_line_at_first_and_a_line_with_a_count_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    now = [0.0]
    troubles = Troubles("pacs", LOG, lambda: now[0])
    troubles.over()
    for _ in range(915):
        now[0] += 0.1
        troubles.again("cannot be reached")
    troubles.again("refused")
    troubles.over()
    troubles.over()
    assert [record.getMessage() for record in caplog.records] == [
        "pacs: cannot be reached",
        "pacs: refused",
        "pacs: works again, after 915 times in 91 s: cannot be reached",
        "pacs: works again, after 1 times in 0 s: refused",
    ]


def test_reasons_that_never_repeat_are_not_kept_for_ever() -> None:
    troubles = Troubles("pacs", LOG)
    for n in range(10 * MOST):
        troubles.again(f"reason {n}")
    assert len(troubles._known) == MOST


def test_a_pacs_that_is_down_is_two_lines_and_a_job_that_arrived_is_one(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = tmp_path / "share"
    share = FolderDestination("share", folder=folder, retry_seconds=0.01, max_retry_seconds=0.01)
    troubles = Troubles("share", LOG)
    queue(database, tmp_path, "share", count=20, now=time.time())
    for _ in range(10):
        deliver.deliver(database, tmp_path, share, "VQNODE", troubles=troubles)
        time.sleep(0.02)
    folder.mkdir()
    time.sleep(0.02)
    deliver.deliver(database, tmp_path, share, "VQNODE", troubles=troubles)
    assert states(database) == {"SENT"}
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("dicom_node")]
    assert len(lines) == 3, lines
    assert lines[0] == f"share: the folder {folder} is not there"
    assert re.fullmatch(r"share: works again, after 200 times in \d+ s: the folder .* is not there", lines[1])
    assert lines[2] == "job 1: 20 objects sent to share"
    with database.reading() as connection:
        assert [e.text for e in timeline(connection, "1.2")] == ["job 1: 20 objects sent to share"]


def test_a_pacs_that_cannot_be_reached_fills_no_log(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    pacs = CStoreDestination(
        "pacs", ae_title="P", host="127.0.0.1", port=1, retry_seconds=0.01, max_retry_seconds=0.01
    )
    troubles = Troubles("pacs", LOG)
    queue(database, tmp_path, "pacs", count=20, now=time.time())
    for _ in range(3):
        deliver.deliver(database, tmp_path, pacs, "VQNODE", troubles=troubles)
        time.sleep(0.02)
    lines = [record for record in caplog.records if record.name.startswith("dicom_node")]
    assert [line.getMessage() for line in lines] == ["pacs (P at 127.0.0.1:1) cannot be reached"]


def test_other_libraries_are_silent_below_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    configure_logging(as_json=True)
    logging.getLogger("fontTools.subset").info("chatter")
    logging.getLogger("pydicom").error("Invalid value for VR PN: 'Doe^Jane'")
    logging.getLogger("fontTools.subset").error("broken\nforged")
    logging.getLogger("dicom_node.node").info("own")
    try:
        raise ValueError("of\nit")
    except ValueError:
        LOG.exception("failed")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["broken\\nforged", "own", "failed"]
    assert [line["level"] for line in lines] == ["error", "info", "error"]
    assert "ValueError: of" in lines[2]["trace"]
    assert set(lines[0]) == {"time", "level", "logger", "process", "message"}


def test_a_node_says_what_it_is_at_its_start_and_its_receivers_are_small(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "share").mkdir()
    (tmp_path / "node.toml").write_text(
        f'storage = "data"\n[receive]\nport = {port}\nmin_free_mb = 1\nacceptors = 1\n'
        f'[[destinations]]\nname = "share"\nkind = "folder"\nfolder = "{tmp_path / "share"}"\n'
    )
    log = tmp_path / "log"
    with log.open("w") as stderr:
        words = [*COMMAND, "serve", "-c", str(tmp_path / "node.toml"), "--log-json"]
        node = subprocess.Popen(words, stderr=stderr)
    try:
        end = time.monotonic() + 60
        health = [*COMMAND, "health", "-c", str(tmp_path / "node.toml")]
        while subprocess.run(health, capture_output=True, check=False).returncode:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.5)
        loaded = [
            {Path(line.split()[-1]).name for line in maps.read_text().splitlines() if line.endswith(".so")}
            for pid in os.listdir("/proc")
            if pid.isdecimal() and parent(pid) == node.pid
            for maps in [Path(f"/proc/{pid}/maps")]
        ]
    finally:
        node.send_signal(signal.SIGTERM)
        assert node.wait(30) == 0
    lines = [json.loads(line)["message"] for line in log.read_text().splitlines()]
    assert re.fullmatch(rf"vq-dicom-node \S+ starts with the storage {tmp_path}/data", lines[0])
    assert lines[1] == f"results go to share (folder, {tmp_path}/share)"
    receives = [found for found in loaded if any("_sqlite3" in name for name in found)]
    assert receives
    wanted = re.compile("_multiarray|gdcm|_imaging|SimpleITK|llvmlite")
    assert not all(any(wanted.search(name) for name in found) for found in receives), loaded


def parent(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
