"""Many cases: found in tables and trees, worked on by processes that may die, finished once, failed with the reason."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest
from made import thorax
from tiny import SETTINGS, Tiny, tiny_thorax

from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.errors import Rejected, Unavailable
from dicom_node.research.batch import Ended, batch
from dicom_node.research.cases import BatchCase, find_cases
from dicom_node.research.many import run_many
from dicom_node.research.run import Recipe
from dicom_node.research.whole_folder import whole_folder
from dicom_node.research.workers import Died, Workers

COMMAND = [sys.executable, "-c", "from dicom_node.commands.app import main; main()"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "80"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return tiny_thorax(tmp_path_factory.mktemp("tiny"))


def table_of(path: Path, tiny: Tiny, names: list[str], extra: str = "") -> Path:
    lines = [f"{name},{tiny.insp},{tiny.exp},{tiny.field},71.5" for name in names]
    path.write_text("\n".join(["case,inspiratory,expiratory,field,dlco", *lines, extra]) + "\n")
    return path


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def living(marker: str) -> list[str]:
    """Processes whose environment holds a marker."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker.encode() in environment.read_bytes():
                found.append(environment.parent.name)
        except OSError:
            continue
    return found


def test_a_killed_batch_loses_nothing_and_goes_on_where_it_was(tiny: Tiny, tmp_path: Path) -> None:
    table = table_of(tmp_path / "cases.csv", tiny, ["a", "b", "c"], "gone,x.nii,y.nii,,")
    results = tmp_path / "results"
    words = [*COMMAND, "batch", str(table), str(results), *SETTINGS]
    environment = {**ENVIRONMENT, "BATCH_TEST": str(tmp_path)}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 200
    while not (results / "a").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = (results / "a" / "analysis.npz").stat().st_mtime_ns
    end = time.monotonic() + 10
    while living(f"BATCH_TEST={tmp_path}"):
        assert time.monotonic() < end, "a worker outlived the batch"
        time.sleep(0.05)
    for folder in results.glob("[abc]"):
        assert {"analysis.npz", "measures.json", "overview.png"} <= {p.name for p in folder.iterdir()}
    done = subprocess.run([*words, "--json"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr  # one case cannot be done
    summary = json.loads(done.stdout)
    assert summary["failed"] == 1
    assert summary["done"] + summary["skipped"] == 3
    assert summary["skipped"] >= 1
    assert (results / "a" / "analysis.npz").stat().st_mtime_ns == first
    found = rows(results / "batch.csv")
    assert {name: row["state"] for name, row in found.items()} == {
        "a": "done", "b": "done", "c": "done", "gone": "failed",
    }  # fmt: skip
    assert "x.nii does not exist" in found["gone"]["reason"]
    assert found["a"]["dlco"] == "71.5"
    assert "other parameters" not in done.stderr
    other = [*words, "--json", "--set", "low=0.5"]
    again = subprocess.run(other, env=environment, capture_output=True, text=True, check=False)
    assert json.loads(again.stdout)["skipped"] == 3
    assert "3 finished cases were made with other parameters or by another version" in again.stderr
    assert (results / "a" / "analysis.npz").stat().st_mtime_ns == first


def test_parts_share_the_cases_without_a_gap_and_without_a_case_twice(tmp_path: Path) -> None:
    cases = [BatchCase(f"case{n}", (tmp_path / "none",)) for n in range(7)]
    seen: list[str] = []
    for number in (1, 2, 3):
        with ThreadPoolExecutor(1) as executor:
            batch(
                cases, tmp_path / "r", Recipe(), executor, (number, 3), lambda c, e, left: seen.append(c.name)
            )
    assert sorted(seen) == [case.name for case in cases]
    assert set(rows(tmp_path / "r" / "batch-2-of-3.csv")) == {"case1", "case4"}
    with pytest.raises(Rejected, match="part 4/3"), ThreadPoolExecutor(1) as executor:
        batch(cases, tmp_path / "r", Recipe(), executor, (4, 3))


def test_a_process_that_dies_costs_its_own_case_only() -> None:
    with Workers(1) as workers:
        orders = [0, 1, 0, 1, 0, 0]
        found = [(order, made) for order, made in run_many(orders, end_process, workers)]
    assert sum(isinstance(made, Died) for _, made in found) == 2
    assert [made for order, made in found if not order] == ["well"] * 4
    assert all(str(made) == "its process was killed by signal 9" for order, made in found if order)


def test_a_limit_of_memory_costs_the_case_that_passes_it() -> None:
    with Workers(1, memory_mb=600) as workers:
        assert workers.submit(allocate, 10).result() == 10
        with pytest.raises(MemoryError):
            workers.submit(allocate, 2000).result()
        assert workers.submit(allocate, 20).result() == 20


@pytest.mark.parametrize("pause", [0.0, 0.05, 1.0])
def test_workers_that_are_ended_in_a_task_end_at_once_and_in_silence(pause: float) -> None:
    workers = Workers(2)
    futures = [workers.submit(time.sleep, 60) for _ in range(4)]
    time.sleep(pause)
    begin = time.monotonic()
    workers.shutdown(cancel_futures=True)
    assert time.monotonic() - begin < 20
    assert all(future.cancelled() or isinstance(future.exception(), Died) for future in futures)


def test_an_error_that_cannot_be_sent_comes_as_its_words() -> None:
    with Workers(1) as workers, pytest.raises(RuntimeError, match="Odd: seven"):
        workers.submit(raise_odd, 7).result()


def test_no_more_cases_are_held_than_asked_for() -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        for n in range(1000):
            taken += 1
            yield n

    with ThreadPoolExecutor(2) as threads:
        stream = run_many(endless(), str, threads, ahead=5)  # type: ignore[arg-type]
        for _ in range(20):
            next(stream)
        assert taken <= 30
        stream.close()  # type: ignore[attr-defined]


def test_a_lost_executor_ends_the_batch_and_is_no_case_failed(tmp_path: Path) -> None:
    class Lost(ThreadPoolExecutor):
        def submit(self, *_: object, **__: object) -> object:  # type: ignore[override]
            return super().submit(lose)

    cases = [BatchCase("one", (tmp_path / "none",))]
    with Lost(1) as executor, pytest.raises(Unavailable, match="the workers were lost"):
        batch(cases, tmp_path / "r", Recipe(), executor)
    assert rows(tmp_path / "r" / "batch.csv")["one"]["state"] == "open"


def test_a_table_that_a_spreadsheet_kept_is_read_and_written_again(tmp_path: Path) -> None:
    kept = "case;state;reason;seconds\na;failed;no lungs;1,5\nb;failed;no lungs;x\n"
    (tmp_path / "batch.csv").write_text(kept)
    cases = [BatchCase("a", (tmp_path / "none",)), BatchCase("b", (tmp_path / "none",))]
    with ThreadPoolExecutor(1) as threads:
        summary = batch(cases, tmp_path, Recipe(), threads)
    assert (summary.done, summary.failed) == (0, 2)
    assert {row["state"] for row in rows(tmp_path / "batch.csv").values()} == {"failed"}


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with (
        pytest.raises(Rejected, match="holds other files and no earlier result"),
        whole_folder(tmp_path / "mine"),
    ):
        pass
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


def test_a_result_that_fails_half_way_leaves_the_earlier_one(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def make(text: str, fail: bool) -> None:
        with whole_folder(out) as draft:
            (draft / "analysis.npz").write_text(text)
            if fail:
                raise Rejected("half way")
            (draft / "measures.json").write_text(text)

    make("first", False)
    with pytest.raises(Rejected, match="half way"):
        make("second", True)
    assert (out / "analysis.npz").read_text() == "first"
    make("third", False)
    assert (out / "analysis.npz").read_text() == "third"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["case,inspiratory"], "needs the columns case, inspiratory and expiratory"),
        (["case,insp,exp", "a,1,2", "a,1,2"], "line 3: case a stands in line 2 already"),
        (
            ["case,insp,exp", "../a,1,2", "b,1,"],
            r"line 2: '../a' is no name .* line 3: expiratory of case b is empty",
        ),
    ],
)
def test_wrong_lines_of_a_table_are_all_named(tmp_path: Path, lines: list[str], said: str) -> None:
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    with pytest.raises(Rejected, match=said):
        find_cases(tmp_path / "cases.csv")


def test_trees_in_the_manner_of_bids_give_a_case_a_session(tmp_path: Path, tiny: Tiny) -> None:
    for place in ("sub-01/ses-a", "sub-01/ses-b", "sub-02"):
        folder = tmp_path / "bids" / place / "ct"
        folder.mkdir(parents=True)
        (folder / f"{place.split('/')[0]}_acq-insp_ct.nii.gz").symlink_to(tiny.insp)
        (folder / f"{place.split('/')[0]}_acq-exp_ct.nii.gz").symlink_to(tiny.exp)
    found = find_cases(tmp_path / "bids")
    assert [case.name for case in found] == ["sub-01_ses-a", "sub-01_ses-b", "sub-02"]
    assert [[s.name for s in case.sources] for case in found][2] == [
        "sub-02_acq-insp_ct.nii.gz", "sub-02_acq-exp_ct.nii.gz",
    ]  # fmt: skip


def test_folders_give_a_case_each_and_a_pile_gives_a_case_a_study(tmp_path: Path) -> None:
    volume = thorax(-700, (6, 16, 16), (5.0, 6.0, 6.0))
    for study in ("one", "two"):
        for number, words in enumerate(("Insp", "Exp"), 1):
            write_ct_series(volume, tmp_path / "in" / study / words, Scan(f"Thorax {words}", study, number))
    by_folder = find_cases(tmp_path / "in")
    assert [(c.name, [s.name for s in c.sources]) for c in by_folder] == [
        ("one", ["Insp", "Exp"]),
        ("two", ["Insp", "Exp"]),
    ]
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in [p for p in (tmp_path / "in").rglob("*") if p.is_file()]:
        (mixed / f"{path.parent.parent.name}{path.parent.name}{path.name}").symlink_to(path)
    for root, each in ((tmp_path / "in", 2), (mixed, 12)):
        piled = find_cases(root, by_study=True)
        assert len(piled) == 2
        assert all(len(case.sources) == each and case.study == case.name for case in piled)


def end_process(order: int) -> str:
    if order:
        os.kill(os.getpid(), signal.SIGKILL)
    return "well"


def allocate(mb: int) -> int:
    return len(bytearray(mb << 20)) >> 20


def lose() -> Ended:
    raise CancelledError


class Odd(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first}{second}")


def raise_odd(_: int) -> None:
    raise Odd("sev", "en")
