"""The commands of docs/keeping.md: a backup taken while the node runs, all lost, restored."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from node_values import quick_run, send, write_scan
from running_node import config, done, running, until

from dicom_node.node.status import status
from dicom_node.settings.destinations import FolderDestination

PAGE = (Path(__file__).parents[3] / "docs" / "keeping.md").read_text(encoding="utf-8")


def commands(heading: str) -> str:
    """The shell block below a heading, without the line of its places."""
    text = PAGE.partition(f"## {heading}\n")[2]
    found = re.search(r"^```sh\n.*?\n(.*?)^```", text, flags=re.M | re.S)
    assert found is not None
    return found[1]


def run(heading: str, **places: Path) -> None:
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        **{name: str(path) for name, path in places.items()},
    }
    subprocess.run(["sh", "-eu", "-c", commands(heading)], env=environment, check=True)


def test_a_backup_of_a_running_node_brings_all_back_and_sends_nothing_twice(tmp_path: Path) -> None:
    share = FolderDestination("share", folder=tmp_path / "share", objects=("sr",))
    share.folder.mkdir()
    settings, backup = config(tmp_path, destinations=(share,)), tmp_path / "backup"
    first = [*write_scan(tmp_path, "Insp", 1), *write_scan(tmp_path, "Exp", 2)]
    alone = write_scan(tmp_path, "Insp", 1, study="another")
    late = write_scan(tmp_path, "Exp", 2, study="another")
    with running(settings, quick_run) as node:
        send(node.port, [*first, *alone])
        until(node, done())
        until(node, lambda found: [d.state for d in found.deliveries] == ["SENT"])
        run("Back up while the node runs", STORAGE=settings.storage, BACKUP=backup)
        send(node.port, late)
        until(node, done(2))
        until(node, lambda found: [d.state for d in found.deliveries] == ["SENT", "SENT"])
    delivered = {path.name: path.read_bytes() for path in share.folder.glob("*.dcm")}
    for path in share.folder.glob("*.dcm"):
        path.unlink()
    shutil.rmtree(settings.storage)

    run("Restore", STORAGE=settings.storage, BACKUP=backup)
    assert settings.layout.patients_key.stat().st_mode & 0o777 == 0o600
    assert settings.storage.stat().st_mode & 0o777 == 0o700
    with running(settings, quick_run) as node:
        found = until(node, lambda found: found.instances.to_be_read == 0)
        assert found.instances.stored == len(first) + len(alone)
        uids = [path.stem for path in (*first, *alone)]
        assert all(path.is_file() for path in node.archive.paths(uids).values())
        assert len(node.archive.paths(uids)) == len(uids)
        assert set(send(node.port, late)) == {0x0000}  # what came after the backup is sent again
        until(node, done(2))
        until(node, lambda found: [d.state for d in found.deliveries] == ["SENT", "SENT"])
        assert len(status(node.database).jobs) == 2
    again = {path.name: path.read_bytes() for path in share.folder.glob("*.dcm")}
    assert len(again) == 1  # the result of the first study, sent before the backup, does not come again
    assert set(again) <= set(delivered)
