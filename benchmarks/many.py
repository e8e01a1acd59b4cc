"""Thousands of tiny cases through `dicom-node batch`, and thousands of results through `cohort`: does memory stay flat?

``python benchmarks/many.py OUT --cases 1000 --minutes 6`` writes phantoms of half a person's size, a table that names
them again and again, and runs ``dicom-node batch`` on it at niceness 10 until the minutes are over; the same command
goes on where it was. On the way the batch is ended by kill -9 and by Ctrl-C, twice each, and started again. What was
finished then must be there untouched afterwards, and `batch.csv` must tell every case. With ``--analysed 1000`` only so
many cases have images; the others fail at once, each with its reason. OUT/memory.csv holds, for each second, how many
cases have ended and what the batch's own process and its worker hold in memory.

``python benchmarks/many.py OUT --cohort 1000 10000`` copies finished results, each with numbers of its own, and
measures what ``dicom-node cohort`` needs for so many.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from used import children_of, held

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from tiny import SCALE, write_scaled

from analysis.truth.phantom import ThoraxShape, thorax_phantom
from dicom_node.research.whole_folder import DRAFTS, holds_result
from dicom_node.results.measures_file import NAME as MEASURES

COMMAND = ["nice", "-n", "10", sys.executable, "-c", "from dicom_node.commands.app import main; main()"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "NO_COLOR": "1"}
#: Phantoms that the cases take in turn, and the size of each beside a person's.
PHANTOMS, VOXEL_MM = 16, 8.0
SETTINGS = (
    "--set",
    f"grid_mm={VOXEL_MM * SCALE:g}",
    "--set",
    "accept_failed_checks=true",
    "--objects",
    "none",
)
#: Shares of the cases at which the batch is ended, and how.
ENDS = ((0.1, signal.SIGKILL), (0.2, signal.SIGINT), (0.5, signal.SIGKILL), (0.6, signal.SIGINT))


def write_table(out: Path, cases: int, analysed: int) -> Path:
    """Write the phantoms and the table of the cases, with a DLCO each; cases after `analysed` have no images."""
    folder, table = out / "images", out / "cases.csv"
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(PHANTOMS):
        if not (folder / f"{n}-field.mha").exists():
            _write_phantom(folder, n)
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "inspiratory", "expiratory", "field", "dlco", "group"])
        for n in range(cases):
            one = n % PHANTOMS if n < analysed else "none"
            names = (f"images/{one}-insp.mha", f"images/{one}-exp.mha", f"images/{one}-field.mha")
            writer.writerow([f"case{n:05d}", *names, f"{50 + n % 40}", f"group {n % 3}"])
    return table


def _write_phantom(folder: Path, n: int) -> None:
    truth = thorax_phantom(shape=ThoraxShape(in_plane_mm=VOXEL_MM, slice_mm=int(VOXEL_MM)), seed=n + 1)
    write_scaled(folder / f"{n}-insp.mha", truth.inspiratory.array, truth.inspiratory.grid)
    write_scaled(folder / f"{n}-exp.mha", truth.expiratory.array, truth.expiratory.grid)
    write_scaled(folder / f"{n}-field.mha", truth.displacement * np.float32(SCALE), truth.expiratory.grid)


def finished(results: Path) -> dict[str, int]:
    """Return the finished cases and when each got its measures (ns)."""
    if not results.is_dir():
        return {}
    folders = [Path(entry.path) for entry in os.scandir(results) if entry.name.startswith("case")]
    assert all(holds_result(folder) for folder in folders), "a folder of results is not whole"
    return {folder.name: (folder / MEASURES).stat().st_mtime_ns for folder in folders}


@dataclass
class Batch:
    """A batch that is run, watched, ended and run again."""

    out: Path
    cases: int
    workers: int

    def run(self, seconds: float) -> None:
        """Go on with the batch until it is finished or the seconds are over; write what it holds on the way."""
        end = time.monotonic() + seconds
        results, log = self.out / "results", self.out / "memory.csv"
        due = list(self._ends(self._ended()))
        while time.monotonic() < end:
            before = finished(results)
            words = [*COMMAND, "batch", str(self.out / "cases.csv"), str(results)]
            words += ["--workers", str(self.workers), "--quiet", *SETTINGS]
            process = subprocess.Popen(words, env=ENVIRONMENT, cwd=self.out)
            ended_by = self._watch(process, log, due, end)
            after = finished(results)
            changed = [name for name, at in before.items() if after.get(name) != at]
            assert not changed, f"{len(changed)} finished cases were lost or made again"
            print(f"{len(before)} -> {len(after)} of {self.cases} finished, {ended_by}", flush=True)
            if process.returncode in (0, 1):  # 1: some have failed
                break

    def _ends(self, done: int) -> Iterator[tuple[int, signal.Signals]]:
        for share, how in ENDS:
            if share * self.cases > done:
                yield int(share * self.cases), how

    def _ended(self) -> int:
        """Return how many cases have ended, as `batch.csv` says, which may be some seconds behind."""
        table = self.out / "results" / "batch.csv"
        text = table.read_text() if table.is_file() else ""
        return text.count(",done,") + text.count(",failed,")

    def _watch(
        self, process: subprocess.Popen[bytes], log: Path, due: list[tuple[int, signal.Signals]], end: float
    ) -> str:
        """Write the memory each second; end the process where that is due, and see that its workers end with it."""
        begun = time.monotonic()
        workers: list[int] = []
        while process.poll() is None:
            count = self._ended()
            workers = children_of(process.pid) if process.poll() is None else workers
            with log.open("a") as file:
                row = time.monotonic() - begun, count, held(process.pid), *(held(one) for one in workers)
                file.write(",".join(f"{value:.1f}" for value in row) + "\n")
            if due and count >= due[0][0]:
                return self._end(process, due.pop(0)[1], workers)
            if time.monotonic() > end:
                return self._end(process, signal.SIGINT, workers)
            time.sleep(1)
        return f"ended with exit code {process.returncode}"

    def _end(self, process: subprocess.Popen[bytes], how: signal.Signals, workers: list[int]) -> str:
        process.send_signal(how)
        process.wait()
        limit = time.monotonic() + 20
        while any(Path(f"/proc/{one}").exists() for one in workers):
            assert time.monotonic() < limit, "a worker outlived the batch"
            time.sleep(0.1)
        return f"ended by {how.name}"

    def judge(self) -> None:
        """Compare folders and table of a batch that is finished, and print how memory went."""
        done = finished(self.out / "results")
        with (self.out / "results" / "batch.csv").open(newline="") as file:
            rows = {row["case"]: row for row in csv.DictReader(file)}
        states = {name for name, row in rows.items() if row["state"] == "done"}
        failed = sum(row["state"] == "failed" and row["reason"] != "" for row in rows.values())
        assert states <= set(done), "batch.csv calls cases done that have no results"
        left = list((self.out / "results" / DRAFTS).glob("*"))
        seconds = [float(row["seconds"]) for row in rows.values() if row["seconds"]]
        print(
            f"{len(done)} of {self.cases} cases finished, {failed} failed with a reason; {len(left)} drafts left"
        )
        print(f"a case: median {np.median(seconds):.2f} s, in all {sum(seconds) / 60:.1f} min")
        print("| cases finished | batch, MB | worker, MB |\n|---|---|---|")
        for count, own, worker in _table(self.out / "memory.csv", self.cases):
            print(f"| {count:,} | {own:.0f} | {worker:.0f} |")


def _table(path: Path, cases: int) -> Iterator[tuple[int, float, float]]:
    """Yield the median memory of ten shares of the cases."""
    rows = [[float(value) for value in line.split(",")] for line in path.read_text().splitlines()]
    rows = [row for row in rows if len(row) > 3]
    for low, high in itertools.pairwise(np.linspace(0, cases, 11)):
        part = [row for row in rows if low < row[1] <= high]
        if part:
            yield int(high), float(np.median([r[2] for r in part])), float(np.median([r[3] for r in part]))


def copies(out: Path, count: int) -> tuple[Path, Path]:
    """Make `count` results from those that are there, each with numbers of its own, and their table of DLCO."""
    sources = [folder for folder in sorted((out / "results").iterdir()) if holds_result(folder)][:PHANTOMS]
    results, table = out / f"copies-{count}", out / f"dlco-{count}.csv"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    rng = np.random.default_rng(count)
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "dlco", "group", "age"])
        for n in range(count):
            source, folder = sources[n % len(sources)], results / f"case{n:05d}"
            folder.mkdir()
            found = json.loads((source / MEASURES).read_text())
            lungs = found["measures"]["lungs"]
            for one in lungs.values():
                if one["value"] is not None:
                    one["value"] *= float(rng.uniform(0.8, 1.2))
            (folder / MEASURES).write_text(json.dumps(found))
            os.link(source / "overview.png", folder / "overview.png")
            dlco = 90 - 0.8 * lungs["total_abnormal"]["value"] + float(rng.normal(0, 5))
            writer.writerow([folder.name, f"{dlco:.1f}", f"group {n % 3}", int(rng.uniform(30, 80))])
    return results, table


def cohorts(out: Path, counts: list[int]) -> None:
    """Report cohorts of several sizes, and print what each needed."""
    print("| results | peak memory, MB | processor time, s |\n|---|---|---|")
    for count in counts:
        results, table = copies(out, count)
        words = [*COMMAND, "cohort", str(results), str(table), "--out", str(out / f"report-{count}")]
        process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0, f"cohort of {count} ended with status {status}"
        print(f"| {count:,} | {used.ru_maxrss / 1e3:.0f} | {used.ru_utime + used.ru_stime:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--analysed", type=int, help="how many cases have images (all)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e6, help="end the batch after these; go on later")
    parser.add_argument(
        "--cohort", type=int, nargs="+", metavar="N", help="report cohorts of N results instead"
    )
    given = parser.parse_args()
    if given.cohort:
        cohorts(given.out, given.cohort)
        return
    # a shell's background ignores Ctrl-C, and so would the batch
    signal.signal(signal.SIGINT, signal.default_int_handler)
    analysed = given.cases if given.analysed is None else given.analysed
    write_table(given.out, given.cases, analysed)
    one = Batch(given.out.absolute(), given.cases, given.workers)
    one.run(60 * given.minutes)
    one.judge()


if __name__ == "__main__":
    main()
