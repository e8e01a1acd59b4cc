"""What an engine costs beside the work itself: child processes here, and a Dask cluster over TLS.

``python benchmarks/engines.py COSTS.json`` (as root; needs dcmtk, PostgreSQL, openssl, the extra `dask`) measures, the
kinds in turn and several rounds of each, with 1 and 2 workers:

- dispatch: processor time of a task that does nothing, of client, scheduler, workers and children together;
- batch: cases an hour and processor time a case of `dicom-node batch`'s own function on tiny phantoms;
- node: the same of a node with PostgreSQL, `[jobs] engine` "local" and "dask", by program;
- what else a simulation needs (`benchmarks/scale.py`): rows written and asked for in a second, bytes, and how long a
  node takes to ask a scheduler of many workers which are free.

Processor time is what is compared: it does not depend on what else runs on the machine, as seconds do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cluster import settled
from cluster_site import Cluster, Scanner, certificates, dask, write_phantoms
from many import PHANTOMS, SCALE, VOXEL_MM, write_table
from receive import free_port
from serving import answers
from used import seconds_of

from analysis.parameters import Parameters
from dicom_node.commands.executors import DaskAddress, dask_workers, local_workers
from dicom_node.jobs import queue as jobs
from dicom_node.jobs.executors import dask as engine_dask
from dicom_node.jobs.executors.dask import DaskExecutor
from dicom_node.research.batch import batch
from dicom_node.research.cases import find_cases
from dicom_node.research.many import run_many
from dicom_node.research.run import Recipe
from dicom_node.settings.dask import DaskSettings

KINDS = ("local", "dask")
#: Threads that write at one time, as many workers and nodes do.
WRITERS = 16
#: A node on a busy machine starts in this time (s).
START_SECONDS = 300.0


@contextmanager
def engine(kind: str, workers: int, folder: Path) -> Iterator[Any]:
    """Yield an executor of a kind, all of whose processes are below this one."""
    if kind == "local":
        with local_workers(workers, 0) as executor:
            yield executor
        return
    tls, port = certificates(folder), free_port()
    programs = dask(folder, tls, port, workers, folder / "none.toml")
    where = DaskAddress(f"tls://127.0.0.1:{port}", tls["ca"], tls["cert"], tls["key"])
    try:
        with dask_workers(where, 0) as executor:
            yield executor
    finally:
        for program in reversed(list(programs.values())):
            program.stop()


def dispatch(kind: str, workers: int, tasks: int) -> float:
    """Return the processor time of a task that does nothing (s)."""
    with (
        tempfile.TemporaryDirectory(prefix="engine-") as folder,
        engine(kind, workers, Path(folder)) as executor,
    ):
        list(run_many(range(-4 * workers, 0), abs, executor))  # every worker has its child
        before = seconds_of(os.getpid())
        assert sum(1 for _ in run_many(range(tasks), abs, executor)) == tasks
        return (seconds_of(os.getpid()) - before) / tasks


def cases(kind: str, workers: int, count: int, made: Path) -> dict[str, float]:
    """Return processor time and time of a tiny case of a batch (s)."""
    recipe = Recipe(Parameters(grid_mm=VOXEL_MM * SCALE, accept_failed_checks=True), objects=())
    found = find_cases(made / "cases.csv")
    with (
        tempfile.TemporaryDirectory(prefix="engine-") as folder,
        engine(kind, workers, Path(folder)) as executor,
    ):
        out = Path(folder)
        batch(found[: 2 * workers], out / "warm", recipe, executor)
        before, began = seconds_of(os.getpid()), time.monotonic()
        summary = batch(found[:count], out / "results", recipe, executor)
        assert summary.done == count
        seconds = time.monotonic() - began
        return {"cpu": (seconds_of(os.getpid()) - before) / count, "seconds": seconds / count}


def node(kind: str, workers: int, studies: int) -> dict[str, float]:
    """Return processor time of a job by program, and time of a job (s), of a node that is given studies."""
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:
        site = Cluster(Path(folder), 1, workers if kind == "dask" else 0, more=f"concurrency = {workers}\n")
        try:
            scanner = Scanner(write_phantoms(Path(folder) / "made", studies), site.ports, 1.0)
            answers(site.ports[0], START_SECONDS)
            time.sleep(10)  # the starts are over
            idle = _rates(site, 15)
            before, began = _seconds(site), time.monotonic()
            for made in sorted((Path(folder) / "made").iterdir()):
                assert scanner.send(made, site.ports[0]) == 0
            assert site.until(settled(studies), 300), "the jobs did not end"
            seconds = time.monotonic() - began
            used = {name: _seconds(site)[name] - before[name] - idle[name] * seconds for name in before}
        finally:
            site.close()
    total = {f"{name} cpu": value / studies for name, value in used.items()}
    rates = {f"{name} idle": value for name, value in idle.items()}
    return {"cpu": sum(used.values()) / studies, "seconds": seconds / studies, **total, **rates}


def _seconds(site: Cluster) -> dict[str, float]:
    found: dict[str, float] = {}
    for program in site.programs.values():
        assert program.process is not None
        found[program.name] = found.get(program.name, 0.0) + seconds_of(program.process.pid)
    return found


def _rates(site: Cluster, seconds: float) -> dict[str, float]:
    """Return what each program uses while there is nothing to do (processor seconds a second)."""
    before = _seconds(site)
    time.sleep(seconds)
    return {name: (value - before[name]) / seconds for name, value in _seconds(site).items()}


def database() -> dict[str, float]:
    """Return how many writes and reads of running jobs PostgreSQL takes in a second, and its processor time of each."""
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:
        site = Cluster(Path(folder), 1, 0)
        try:
            answers(site.ports[0], START_SECONDS)
            site.programs["node 0"].stop()
            opened = site.database()
            program = site.programs["PostgreSQL"].process
            assert program is not None
            found = {}
            for name, call in (
                ("write", lambda n: jobs.progress(opened, n, 1, "registration", 0.5)),
                ("read", lambda n: jobs.is_wanted(opened, n, 1)),
            ):
                before = seconds_of(program.pid)
                count, seconds = _many(call, 5.0)
                found[f"{name}s a second"] = count / seconds
                found[f"cpu of a {name}"] = (seconds_of(program.pid) - before) / count
            opened.close()
            return found
        finally:
            site.close()


def _many(call: Callable[[int], object], seconds: float) -> tuple[int, float]:
    """Call a function in many threads, and return how often it was called, and in which time (s)."""
    counts, end = [0] * WRITERS, time.monotonic() + seconds

    def go_on(thread: int) -> None:
        while time.monotonic() < end:
            call(thread)
            counts[thread] += 1

    threads = [threading.Thread(target=go_on, args=(n,)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts), seconds


def disk(megabytes: int = 256) -> dict[str, float]:
    """Return the bytes in a second that this disk keeps durably, and that it gives back (MB/s)."""
    block = os.urandom(1 << 20)
    with tempfile.NamedTemporaryFile(prefix="engine-") as file:
        began = time.monotonic()
        for _ in range(megabytes):
            file.write(block)
        file.flush()
        os.fdatasync(file.fileno())
        written = time.monotonic()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        while file.read(1 << 20):
            pass
        return {"write": megabytes / (written - began), "read": megabytes / (time.monotonic() - written)}


def asking(sizes: tuple[int, ...] = (2, 20)) -> dict[str, float]:
    """Return the processor time in which a node learns which of so many workers are free (s).

    With more of them in one process, what they say to their scheduler all the time hides the question.
    """
    found = {}
    for size in sizes:
        code = f"import engines; print(engines.asking_of({size}))"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found[str(size)] = float(done.stdout.split()[-1])
    return found


def asking_of(workers: int, times: int = 20) -> float:
    """Return the processor time of one question to a scheduler of so many workers, all within this process."""
    import distributed

    engine_dask.ANSWER_SECONDS = START_SECONDS
    with distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=False, protocol="tcp://", host="127.0.0.1",
        dashboard_address=None, memory_limit=0,
    ) as local:  # fmt: skip
        executor = DaskExecutor(DaskSettings(local.scheduler_address))
        assert executor.free == workers
        time.sleep(2)
        idle = _own(3.0)
        before, began = time.process_time(), time.monotonic()
        for _ in range(times):
            assert executor.free == workers
        used = time.process_time() - before - idle * (time.monotonic() - began)
        with suppress(Exception):
            executor.stop()
    return max(used, 0.0) / times


def _own(seconds: float) -> float:
    before = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - before) / seconds


def compared(measure: Callable[[str, int], Any], rounds: int) -> dict[str, list[Any]]:
    """Measure every kind with 1 and 2 workers, in turn."""
    found: dict[str, list[Any]] = {}
    for turn in range(rounds):
        for workers in (1, 2):
            for kind in KINDS if turn % 2 == 0 else KINDS[::-1]:
                one = measure(kind, workers)
                found.setdefault(f"{kind} {workers}", []).append(one)
                print(kind, workers, one, flush=True)
    return found


def main() -> None:
    parts: dict[str, Callable[[argparse.Namespace], Any]] = {
        "dispatch": lambda g: compared(lambda kind, w: dispatch(kind, w, g.tasks), g.rounds),
        "batch": lambda g: _batches(g.cases, g.rounds),
        "node": lambda g: compared(lambda kind, w: node(kind, w, g.studies), g.rounds),
        "database": lambda g: database(),
        "disk": lambda g: disk(),
        "asking": lambda g: asking(),
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("costs", type=Path, help="what was measured is added to this file")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--studies", type=int, default=6)
    given = parser.parse_args()
    costs = json.loads(given.costs.read_text()) if given.costs.exists() else {}
    for name in given.parts:
        costs[name] = parts[name](given)
        given.costs.write_text(json.dumps(costs, indent=1))
        print(name, json.dumps(costs[name]), flush=True)


def _batches(count: int, rounds: int) -> dict[str, list[Any]]:
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:
        made = Path(folder)
        write_table(made, max(count, PHANTOMS), max(count, PHANTOMS))
        return compared(lambda kind, workers: cases(kind, workers, count, made), rounds)


if __name__ == "__main__":
    main()
