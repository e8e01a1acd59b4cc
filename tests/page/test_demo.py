"""The first command of the README as a newcomer types it: its page answers while it works, and stays with `--page`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.slow


def test_the_demo_prints_the_address_of_its_page_while_it_works_and_keeps_it_open(tmp_path: Path) -> None:
    start = "from dicom_node.commands.app import main; main()"
    command = [sys.executable, "-c", start, "demo", "--page", "--port", "0", "--out", str(tmp_path / "demo")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        try:
            lines = iter(running.stdout.readline, "")
            told = next(line for line in lines if "http" in line)
            found = re.search(r"(http://127\.0\.0\.1:\d+)/\s+\(name demo, password (\S+)\)", told)
            assert found is not None, told
            base, password = found[1], found[2]
            with httpx.Client(base_url=base, headers={"Origin": base}, timeout=120) as browser:
                for _ in range(240):
                    try:
                        answer = browser.post("/login", data={"name": "demo", "password": password})
                        break
                    except httpx.ConnectError:
                        continue
                assert answer.status_code == 303
                before = browser.get("/api/v1/studies").json()
                assert not any(line["job_state"] == "DONE" for line in before["lines"])
                assert any("stays open" in line for line in lines)
                (line,) = browser.get("/api/v1/studies").json()["lines"]
                assert line["job_state"] == "DONE"
                assert "dead space" in browser.get(f"/results/{line['job_id']}").text.lower()
        finally:
            os.kill(running.pid, signal.SIGTERM)
    assert running.returncode == 0
