"""What processes have used: memory, and processor time with all they started."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
TICK = os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    """Return the numbers of the processes that a process started and that live."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended meanwhile
            found += map(int, task.read_text().split())
    return found


def held(pid: int) -> float:
    """Return the memory that a process holds (MB); NaN where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MB
    except OSError:
        return float("nan")


def seconds_of(pid: int) -> float:
    """Return the processor time of a process and of all below it, those that have ended included (s)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    own = sum(int(value) for value in fields[11:15]) / TICK  # utime, stime, cutime, cstime
    return own + sum(seconds_of(child) for child in children_of(pid))
