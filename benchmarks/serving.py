"""`dicom-node serve` and real storescu senders (dcmtk), for benchmarks: made studies, and what became of them."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from pydicom import dcmread
from receive import free_port

from analysis.volume import Grid, Volume
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.model import Pair
from dicom_node.store.database import Database
from dicom_node.store.tables import instance, job, study
from dicom_node.strict_json import load

SLICES = 24
COMMAND = [sys.executable, "-c", "from dicom_node.commands.app import main; main()", "serve", "--config"]
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
        self.responses = self.refused = 0
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
                else:
                    self.refused += status == "Refused"
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


def start(config: Path, folder: Path, more: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A node as a process group of its own, with `more` in its environment."""
    environment = {**ENVIRONMENT, **(more or {})}
    with (folder / "node.log").open("ab") as log:
        return subprocess.Popen([*COMMAND, str(config)], stderr=log, env=environment, start_new_session=True)


def answers(port: int, seconds: float = 60.0) -> None:
    """Wait until the node answers a C-ECHO: it listens before its acceptors are there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            listens = not probe.connect_ex(("127.0.0.1", port))
        echo = ["echoscu", "-to", "5", "-ta", "5", "127.0.0.1", str(port)]
        if listens and not subprocess.run(echo, env=ENVIRONMENT, capture_output=True, check=False).returncode:
            return
        time.sleep(0.05)
    raise SystemExit("the node does not start")


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


@dataclass(frozen=True)
class Outcome:
    """What became of what storescu was thanked for, in one part of the campaign."""

    part: str
    what: str
    acknowledged: int
    lost: int
    doubled: int
    wrongly_paired: int

    @property
    def well(self) -> bool:
        """Nothing lost, doubled, or wrongly paired; and there was something to lose."""
        return self.acknowledged > 0 and not (self.lost or self.doubled or self.wrongly_paired)


class Site:
    """A node, the studies it is sent, and its senders.

    Parameters
    ----------
    folder : Path
    studies : int
    senders : int
    seed : int
    settings : str
        Lines of ``[receive]``.
    storage : str
        Relative to `folder`.
    """

    def __init__(
        self,
        folder: Path,
        studies: int = 6,
        senders: int = 4,
        seed: int = 1,
        settings: str = "min_free_mb = 1\n",
        storage: str = "dicom-node-data",
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.port, self.studies = folder, free_port(), studies
        self.storage, self.config = folder / storage, folder / "node.toml"
        self.folders = write_studies(folder / "made", studies)
        self.sources = {path.stem: path for made in self.folders for path in made.iterdir()}
        self.senders = Senders(self.folders, self.port, senders, seed)
        self.configure(settings)
        self.node: subprocess.Popen[bytes] | None = None

    def configure(self, settings: str) -> None:
        """Write the configuration the next start reads."""
        self.config.write_text(
            f"tick_seconds = 0.1\nstorage = '{self.storage}'\n[receive]\nport = {self.port}\n"
            f"quiet_seconds = 3\n{settings}[jobs]\nmax_crashes = 99\n"
        )

    def start(self, more: Mapping[str, str] | None = None, ready: bool = True) -> None:
        """Start the node, and wait until it is `ready`."""
        self.node = start(self.config, self.folder, more)
        if ready:
            answers(self.port)

    def kill(self) -> None:
        """kill -9 the node's process group."""
        if self.node is not None:
            os.killpg(self.node.pid, signal.SIGKILL)
            self.node.wait()
            self.node = None

    def database(self) -> Database:
        """Of the node."""
        return Database(f"sqlite:///{self.storage / 'node.db'}")

    def lost(self, thanked: set[str]) -> set[str]:
        """What storescu was thanked for, and is not there."""
        database = self.database()
        try:
            return thanked - stored(database, self.storage)
        finally:
            database.close()

    def judge(self, part: str, what: str, lost: set[str]) -> Outcome:
        """Send everything once more in peace, let the node decide, and compare; `lost` was found lost before."""
        acknowledged = self.senders.responses
        for made in self.folders:
            assert self.senders.send(made) == 0, f"{made.name} is not taken in peace"
        database = self.database()
        wait_settled(database, self.studies)
        lost = lost | (self.senders.acknowledged - stored(database, self.storage))
        lost |= {uid for uid, path in self.sources.items() if not same(database, self.storage, uid, path)}
        files = len(list((self.storage / "archive").rglob("*.dcm")))
        jobs, wrong, odd = wrongly_paired(database, self.sources)
        database.close()
        what = f"{what}; {jobs} of {self.studies} studies paired"
        doubled = abs(files - len(self.sources)) + odd + abs(jobs - self.studies)
        return Outcome(part, what, acknowledged, len(lost), doubled, wrong)
