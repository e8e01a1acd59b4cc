"""The parts of the fault campaign, short: nothing acknowledged is lost, doubled or wrongly paired."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from peers import program

FAULTS = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "size"),
    [
        ("kill", 5),
        ("disk", 10),
        ("lock", 5),
        ("clock", 3),
        ("crowd", 10),
        ("pacs", 200),
        ("order", 0),
        ("soak", 500),
    ],
)
def test_what_was_acknowledged_is_there_once(part: str, size: int) -> None:
    program("storescu")
    if part == "pacs":
        program("Orthanc")
    if part == "disk" and os.geteuid():
        pytest.skip("only root mounts a file system")
    if part == "order" and not shutil.which("strace"):
        pytest.skip("strace is not installed")
    command = [sys.executable, str(FAULTS), f"--{part}", str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
