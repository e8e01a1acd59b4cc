from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import die, sleep, sleep_with_program

from dicom_node.errors import Rejected
from dicom_node.processes import Crew, run_program


def until(happened: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def program_of(folder: Path) -> int:
    """The program that a process started, once it runs."""
    until(lambda: (folder / "pid").is_file() and (folder / "pid").read_text())
    return int((folder / "pid").read_text())


@pytest.mark.parametrize("how", ["ended by the node", "killed", "too late", "the node stops"])
def test_what_a_process_started_ends_with_it_however_it_ends(tmp_path: Path, how: str) -> None:
    crew: Crew[Path] = Crew(sleep_with_program, 1, 3.0 if how == "too late" else 600.0)
    crew.start(tmp_path)
    program = program_of(tmp_path)
    (leader,) = [int(Path(f"/proc/{program}/stat").read_text().rpartition(")")[2].split()[2])]
    assert alive(program)
    if how == "ended by the node":
        crew.end(tmp_path)
    elif how == "killed":
        os.kill(leader, signal.SIGKILL)
    elif how == "the node stops":
        assert crew.stop() == [tmp_path]
    if how != "the node stops":
        until(crew.ended)
        (ended,) = crew.ended()
        assert ended.how == ("ran longer than 0.05 minutes" if how == "too late" else "ended by signal 9")
    until(lambda: not alive(program) and not alive(leader))


def test_an_order_is_named_until_its_end_was_written_down(tmp_path: Path) -> None:
    crew: Crew[Path] = Crew(die, 1, 600.0)
    crew.start(tmp_path)
    until(crew.ended)
    assert [e.how for e in crew.ended()] == ["ended with exit code 7"]
    assert crew.free == 0
    crew.forget(tmp_path)
    assert (crew.ended(), crew.free, crew.orders) == ([], 1, [])


def test_a_process_within_its_time_runs_on(tmp_path: Path) -> None:
    crew: Crew[Path] = Crew(sleep, 1, 600.0)
    crew.start(tmp_path)
    time.sleep(0.5)
    assert crew.ended() == []
    crew.stop()


def test_a_program_that_runs_too_long_is_killed_with_what_it_started(tmp_path: Path) -> None:
    script = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']); "
    script += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); p.wait()"
    with pytest.raises(Rejected, match="ran longer than"):
        run_program([sys.executable, "-c", script], 2.0)
    child = program_of(tmp_path)
    until(lambda: not alive(child))


def test_a_program_ends_with_its_own_exit_code_or_is_named_where_it_is_not_there() -> None:
    assert run_program([sys.executable, "-c", "raise SystemExit(3)"], 60.0) == 3
    with pytest.raises(Rejected, match="the program nowhere-to-be-found cannot be started: No such file"):
        run_program(["nowhere-to-be-found"], 60.0)
