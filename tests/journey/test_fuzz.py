"""The benchmark of hostile bytes, short: the node lives, and nothing it reads crashes or hangs its readers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


def test_changed_pdus_and_files_harm_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(FUZZ), "--pdus", "1000", "--files", "200", "--no-bombs", "--seed", "7"]
    done = subprocess.run([*command, "--folder", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "changed PDUs: " in done.stdout
    assert "changed files: 200" in done.stdout
