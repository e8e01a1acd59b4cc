"""kill -9 of a receiving node under load, again and again: is anything acknowledged lost, doubled, wrongly paired?

``python benchmarks/faults.py --kills 200`` runs ``dicom-node serve`` and real ``storescu`` senders (dcmtk), kills the
node's whole process group at random moments, and looks after every kill, before anything is sent again, for each
image that storescu was thanked for. At the end everything is sent once more, in peace, and the pairs are compared
with what was made.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from pydicom import dcmread

from analysis.volume import Grid, Volume
from dicom_node.ct_series import Scan, write_ct_series
from dicom_node.database import Database, instance, job, load, study
from dicom_node.model import Pair

SLICES = 24
COMMAND = [sys.executable, "-c", "from dicom_node.cli import main; main()", "serve", "--config"]
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
THANKED = re.compile(r"Sending file: (\S+)|Received Store Response \((\w+)")


def write_studies(folder: Path, count: int) -> list[Path]:
    """Folders of one series each: an inspiration and an expiration for each study."""
    array = np.arange(SLICES * 64 * 64, dtype=np.int16).reshape(SLICES, 64, 64) % 3000 - 1000
    volume = Volume(array, Grid.axial((SLICES, 64, 64), (5.0, 4.0, 4.0)))
    folders = []
    for n in range(count):
        for number, phase in enumerate(("Insp", "Exp"), 1):
            folders.append(folder / f"{n}-{phase}")
            scan = Scan(f"Thorax {phase}", f"study {n}", number, acquired=datetime(2026, 1, 1, 9, number))
            write_ct_series(volume, folders[-1], scan)
    return folders


class Senders:
    """storescu processes that send series in random order until told to stop; what they were thanked for."""

    def __init__(self, folders: list[Path], port: int, count: int, seed: int) -> None:
        self._folders, self._port, self._random = folders, port, random.Random(seed)
        self._stop, self._go = threading.Event(), threading.Event()
        self._sending = [threading.Lock() for _ in range(count)]
        self._lock = threading.Lock()
        self.acknowledged: set[str] = set()
        self.responses = 0
        self._threads = [
            threading.Thread(target=self._send_on, args=(turn,), daemon=True) for turn in self._sending
        ]

    def start(self) -> None:
        self._go.set()
        for thread in self._threads:
            thread.start()

    def pause(self) -> set[str]:
        """Let every storescu under way end, begin no other; what all of them were thanked for."""
        self._go.clear()
        for turn in self._sending:
            with turn:
                pass
        return set(self.acknowledged)

    def resume(self) -> None:
        self._go.set()

    def stop(self) -> None:
        self._stop.set()
        self._go.set()
        for thread in self._threads:
            thread.join()

    def send(self, folder: Path) -> int:
        """One storescu; its exit code."""
        command = ["storescu", "-v", "+sd", "-aec", "VQNODE", "127.0.0.1", str(self._port), str(folder)]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        uid = ""
        with self._lock:
            for path, status in THANKED.findall(done.stdout + done.stderr):
                if path:
                    uid = Path(path).stem
                elif status == "Success":
                    self.acknowledged.add(uid)
                    self.responses += 1
        return done.returncode

    def _send_on(self, turn: threading.Lock) -> None:
        while not self._stop.is_set():
            self._go.wait()
            with turn:
                failed = self._go.is_set() and self.send(self._random.choice(self._folders))
            if failed:
                time.sleep(0.1)


def stored(database: Database, storage: Path) -> set[str]:
    """Instances with a row and a whole file."""
    with database.reading() as connection:
        rows = connection.execute(
            sa.select(instance.c.sop_instance_uid, instance.c.path, instance.c.size)
        ).all()
    return {r.sop_instance_uid for r in rows if _size(storage / r.path) > r.size}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def wrongly_paired(database: Database, sources: dict[str, Path]) -> tuple[int, int, int]:
    """(jobs in force, wrongly paired, studies with another number of them than one)."""
    with database.reading() as connection:
        rows = connection.execute(sa.select(job)).all()
        studies = set(connection.scalars(sa.select(study.c.study_uid)))
    # jobs of earlier revisions saw fewer slices; the last of a study is in force
    last = {row.study_uid: row for row in sorted(rows, key=lambda r: r.revision)}
    wrong = 0
    for row in last.values():
        pair = load(Pair, row.pair)
        ends = (pair.inspiratory, "Insp"), (pair.expiratory, "Exp")
        names = {sources[uid].parent.name for series, _ in ends for uid in series.sop_instance_uids}
        phases = all(
            sources[uid].parent.name.endswith(phase)
            for series, phase in ends
            for uid in series.sop_instance_uids
        )
        whole = all(len(series.sop_instance_uids) == SLICES for series, _ in ends)
        wrong += not (phases and whole and len({n.split("-")[0] for n in names}) == 1)
    marks = [row.fingerprint for row in rows]
    return len(last), wrong, len(studies - set(last)) + len(marks) - len(set(marks))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        return campaign(folder, options)
    finally:
        shutil.rmtree(folder)


def campaign(folder: Path, options: argparse.Namespace) -> int:
    """Kill, look, start again; then let everything end well and compare."""
    folders = write_studies(folder / "made", options.studies)
    sources = {path.stem: path for f in folders for path in f.iterdir()}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config, storage = folder / "node.toml", folder / "dicom-node-data"
    config.write_text(
        f"tick_seconds = 0.1\n[receive]\nport = {port}\nmin_free_mb = 1\nquiet_seconds = 3\n[jobs]\nmax_crashes = 99\n"
    )
    moments, kills, lost = random.Random(options.seed), 0, set()
    senders = Senders(folders, port, options.senders, options.seed)
    began = time.monotonic()
    senders.start()
    while kills < options.kills:
        node = start(config, folder)
        answers(port)
        time.sleep(moments.uniform(0.0, 1.5))
        thanked = kill(node, senders)
        kills += 1
        database = Database(f"sqlite:///{storage / 'node.db'}")
        lost |= thanked - stored(database, storage)
        database.close()
        senders.resume()
    senders.stop()
    minutes = (time.monotonic() - began) / 60
    node = start(config, folder)
    answers(port)
    for one in folders:
        assert senders.send(one) == 0, f"{one.name} is not taken in peace"
    database = Database(f"sqlite:///{storage / 'node.db'}")
    wait_settled(database, options.studies)
    lost |= senders.acknowledged - stored(database, storage)
    changed = sum(not same(database, storage, uid, path) for uid, path in sources.items())
    files = len(list((storage / "archive").rglob("*.dcm")))
    jobs, wrong, odd = wrongly_paired(database, sources)
    os.killpg(node.pid, signal.SIGKILL)
    database.close()
    print(f"kill -9: {kills} in {minutes:.1f} min, {options.senders} storescu at a time")
    print(f"acknowledged: {len(senders.acknowledged)} images, {senders.responses} Success responses")
    print(f"lost: {len(lost)}   changed: {changed}   files more than images: {files - len(sources)}")
    print(f"pairs: {jobs} of {options.studies} studies   wrongly paired: {wrong}   missing or doubled: {odd}")
    return int(bool(lost or changed or files != len(sources) or wrong or odd or jobs != options.studies))


def start(config: Path, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "node.log").open("ab") as log:
        return subprocess.Popen([*COMMAND, str(config)], stderr=log, env=ENVIRONMENT, start_new_session=True)


def answers(port: int) -> None:
    """Wait until the node listens."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)
    raise SystemExit("the node does not start")


def kill(node: subprocess.Popen[bytes], senders: Senders) -> set[str]:
    """kill -9 the process group; what its senders were thanked for before."""
    os.killpg(node.pid, signal.SIGKILL)
    node.wait()
    return senders.pause()


def wait_settled(database: Database, studies: int) -> None:
    """Wait until every study is looked at and no job is ready or running."""
    end = time.monotonic() + 600
    while time.monotonic() < end:
        with database.reading() as connection:
            states = list(connection.scalars(sa.select(study.c.state).where(study.c.due_at.is_(None))))
            busy = connection.scalar(
                sa.select(sa.func.count()).select_from(job).where(job.c.state.in_(("READY", "RUNNING")))
            )
        if len(states) == studies and not busy:
            return
        time.sleep(0.5)
    raise SystemExit("the node does not settle")


def same(database: Database, storage: Path, uid: str, source: Path) -> bool:
    with database.reading() as connection:
        path = connection.scalar(sa.select(instance.c.path).where(instance.c.sop_instance_uid == uid))
    return path is not None and dcmread(storage / path) == dcmread(source)


if __name__ == "__main__":
    sys.exit(main())
