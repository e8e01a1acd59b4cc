"""The node under test as its operators run it: ``dicom-node serve`` in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import dcmtk, free_port

from dicom_node.node.status import status as read_status
from dicom_node.store.database import Database
from dicom_node.strict_json import encode

COMMAND = [sys.executable, "-c", "from dicom_node.commands.app import main; main()"]


class Serve:
    """``dicom-node serve`` as a process group of its own."""

    def __init__(self, folder: Path, destination: int, *, analysis: str = "", quiet: float = 2.0) -> None:
        self.port, self.config = free_port(), folder / "node.toml"
        self.log, self.destination = folder / "node.log", destination
        self.config.write_text(
            f"tick_seconds = 0.1\n[receive]\nport = {self.port}\nquiet_seconds = {quiet}\nmin_free_mb = 1\n"
            # the phantoms of many studies are one patient's, of one device
            f"[pairing]\nbetween_studies_minutes = 0.0\n[analysis]\n{analysis}\n[[destinations]]\nname = 'pacs'\n"
            f"ae_title = 'ORTHANC'\nhost = '127.0.0.1'\nport = {destination}\nretry_seconds = 0.5\n"
            "max_retry_seconds = 1\nobjects = ['seg', 'sr']\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [*COMMAND, "serve", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stderr=log, start_new_session=True)
        self.until(lambda: dcmtk("echoscu", "127.0.0.1", str(self.port), check=False).returncode == 0)

    def kill(self) -> None:
        """kill -9 the node and its children at once."""
        if self.process is not None and self.process.poll() is None:
            subprocess.run(["pkill", "-KILL", "-s", str(self.process.pid)], check=True)  # its session
            self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(30) == 0

    def status(self) -> dict[str, Any]:
        command = [*COMMAND, "status", "--json", "--config", str(self.config)]
        return dict(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))

    def peek(self) -> dict[str, Any]:
        """The same from the database, for waiting: no process started, little work taken from the node."""
        database = Database(f"sqlite:///{self.config.parent / 'dicom-node-data' / 'node.db'}")
        try:
            return dict(json.loads(encode(read_status(database))))
        finally:
            database.close()

    def until(self, happened: Callable[[], object], seconds: float = 900.0) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, self.log.read_text()[-4000:]
            time.sleep(0.2)

    def jobs(self) -> list[str]:
        return [f"{j['state']} {j['stage']}".strip() for j in self.status()["jobs"]]
