"""The benchmark of those who shut others out: the scanner gets in, whatever hundreds of connections do meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CROWD = Path(__file__).parents[2] / "benchmarks" / "crowd.py"


def gets_in(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, str(CROWD), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "| none |" in done.stdout


def test_half_requests_and_idle_associations_keep_no_scanner_out() -> None:
    gets_in("--sends", "5", "--parts", "half requests", "associations that say nothing")


@pytest.mark.slow
def test_nobody_keeps_a_scanner_out_164_times() -> None:
    gets_in("--sends", "164")
