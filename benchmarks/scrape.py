"""How long a scrape of `/metrics`, a `status` and a probe take with many studies in the database.

    python benchmarks/scrape.py [--studies 100000] [--folder FOLDER] [--rounds 20]

Makes an SQLite database with so many studies (10 images, a job and 12 deliveries each; 1 in 1000 waits, 1 in 500 is
open) in a temporary folder, or in FOLDER, where it is used again. Needs the installed package only.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from dicom_node.metrics.answers import Answers
from dicom_node.node.status import status
from dicom_node.settings.config import Config
from dicom_node.settings.destinations import FolderDestination
from dicom_node.store.database import Database
from dicom_node.store.heartbeat import Pulse
from dicom_node.store.tables import delivery, event, instance, job, result, study

IMAGES, OBJECTS = 10, 12
BATCH = 2000


def fill(database: Database, count: int) -> None:
    """Insert `count` studies and what belongs to them."""
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        with database.writing() as connection:
            connection.execute(sa.insert(study), [_study(n) for n in numbers])
            connection.execute(sa.insert(instance), [_image(n, i) for n in numbers for i in range(IMAGES)])
            connection.execute(sa.insert(job), [_job(n) for n in numbers])
            connection.execute(sa.insert(result), [_result(n, i) for n in numbers for i in range(OBJECTS)])
            connection.execute(
                sa.insert(delivery), [_delivery(n, i) for n in numbers for i in range(OBJECTS)]
            )
            connection.execute(sa.insert(event), [_event(n, i) for n in numbers for i in range(5)])


def _study(n: int) -> dict[str, object]:
    state = "WAITING" if n % 1000 == 0 else "PAIRED"
    row = {"study_uid": f"1.2.826.{n}", "state": state, "reason": "", "search": "", "since": float(n)}
    return {**row, "received_at": float(n), "due_at": 4e9 if state == "WAITING" else None}


def _image(n: int, i: int) -> dict[str, object]:
    uids = {"sop_instance_uid": f"1.2.826.{n}.{i}", "sop_class_uid": "1.2", "transfer_syntax_uid": "1.2.1"}
    row = {"sha256": f"{n * IMAGES + i:064x}", "size": 526_000, "path": f"archive/00/{n}-{i}.dcm"}
    header = "{" + " " * 400 + "}"
    series = {"study_uid": f"1.2.826.{n}", "series_uid": f"1.2.826.{n}.s{i % 2}", "header": header}
    return {**uids, **row, **series, "received_at": float(n), "calling_ae": "CT1"}


def _job(n: int) -> dict[str, object]:
    row = {"id": n + 1, "study_uid": f"1.2.826.{n}", "revision": 1, "fingerprint": f"{n:064x}", "pair": ""}
    times = {"created": float(n), "since": float(n), "due_at": float(n)}
    return {**row, **times, "parameters": "", "state": "READY" if n % 500 == 0 else "DONE"}


def _result(n: int, i: int) -> dict[str, object]:
    return {
        "sop_instance_uid": f"2.25.{n}.{i}",
        "sop_class_uid": "1.2",
        "job_id": n + 1,
        "path": f"results/{n}/{i}",
    }


def _delivery(n: int, i: int) -> dict[str, object]:
    state = "QUEUED" if n % 500 == 1 else "DEAD" if n % 500 == 2 else "SENT"
    row = {"sop_instance_uid": f"2.25.{n}.{i}", "destination": "share", "state": state, "attempts": 1}
    return {**row, "since": float(n), "created": float(n), "due_at": float(n), "reason": ""}


def _event(n: int, i: int) -> dict[str, object]:
    row = {"at": float(n), "kind": "decided", "study_uid": f"1.2.826.{n}", "job_id": n + 1}
    return {**row, "about": "", "text": f"event {i} of a study, with a reason that is a sentence long"}


def timed(name: str, rounds: int, call: Callable[[], object]) -> None:
    """Print the first, the median and the longest time of a call (ms), and its processor time."""
    times, cpu = [], []
    for _ in range(rounds):
        used, begun = time.process_time(), time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begun))
        cpu.append(1000 * (time.process_time() - used))
    row = f"first {times[0]:.0f}, median {statistics.median(times):.1f}, longest {max(times):.0f} ms"
    print(f"{name:10} {row}; processor {statistics.median(cpu):.1f} ms")


def main() -> None:
    """Fill, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "node.db"
        old = file.exists()
        database = Database(f"sqlite:///{file}", prepare=True)
        if not old:
            begun = time.perf_counter()
            fill(database, chosen.studies)
            print(f"made in {time.perf_counter() - begun:.0f} s, {file.stat().st_size / 1e6:.0f} MB")
        config = Config(storage=folder, destinations=(FolderDestination("share", folder=folder),))
        answers = Answers(config, database, lambda: Pulse("1", 0.0, 104, 2, 2, time.time()))
        for path in answers.paths:
            timed(path, chosen.rounds, lambda path=path: answers.answer(path))  # type: ignore[misc]
        timed("status", chosen.rounds, lambda: status(database))
        database.close()
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
