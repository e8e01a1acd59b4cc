"""Nodes, Dask workers over TLS, one PostgreSQL, a PACS and a scanner, as programs on loopback, in one folder."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from receive import free_port
from serving import ENVIRONMENT

from analysis.truth.phantom import ThoraxShape, thorax_phantom
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.errors import NodeError
from dicom_node.store.database import Database

SERVE = [sys.executable, "-c", "from dicom_node.commands.app import main; main()", "serve", "--config"]
#: Pause before a program that ended is started again (s).
AGAIN_SECONDS = 1.0


class Pacs:
    """A storage SCP in this process that counts how often each object came."""

    def __init__(self) -> None:
        self.port, self.came = free_port(), Counter[str]()
        ae = AE("PACS")
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax or "")
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )

    def _store(self, event: evt.Event) -> int | Dataset:
        self.came[str(event.request.AffectedSOPInstanceUID)] += 1  # type: ignore[union-attr]
        return 0x0000

    def close(self) -> None:
        self._server.shutdown()  # type: ignore[union-attr]


class Supervised:
    """A program in a session of its own, started again whenever it ends, until it is stopped for good."""

    def __init__(self, name: str, words: list[str], log: Path, more: Mapping[str, str] | None = None) -> None:
        self.name, self._words, self._log, self._more = name, words, log, more or {}
        self._over = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """kill -9 it and everything it started."""
        process = self.process
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def stop(self) -> None:
        self._over.set()
        self.kill()
        self._thread.join()

    def _keep(self) -> None:
        while not self._over.is_set():
            with self._log.open("ab") as log:
                process = self.process = subprocess.Popen(
                    self._words,
                    env={**ENVIRONMENT, **self._more},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            process.wait()
            self.kill()  # its children may live on
            self._over.wait(AGAIN_SECONDS)


class Postgres:
    """A PostgreSQL of its own, durable as it comes, in a folder below /tmp, which its user can enter."""

    def __init__(self) -> None:
        self.folder = folder = Path(tempfile.mkdtemp(prefix="vq-postgres-"))
        shutil.chown(folder, "postgres")
        self._bin = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self._run(f"{self._bin}/initdb -D {folder}/db -A trust >/dev/null")
        self.url = f"postgresql+psycopg://postgres@/postgres?host={folder}"

    def supervise(self, log: Path) -> Supervised:
        # the shared memory of a postmaster that was killed is freed once its children have seen it, in a second
        server = f"exec {self._bin}/postgres -D {self.folder}/db -k {self.folder} -c listen_addresses=''"
        server += " -c max_connections=400"
        return Supervised("PostgreSQL", ["su", "postgres", "-c", server], log)

    def remove(self) -> None:
        """Remove its files, once it has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, words: str) -> None:
        subprocess.run(["su", "postgres", "-c", words], check=True)


class Cluster:
    """Everything, on loopback, in one folder.

    Parameters
    ----------
    folder : Path
    nodes, workers : int
        Without workers each node works on jobs itself.
    more : str
        Further lines of [jobs].
    """

    def __init__(self, folder: Path, nodes: int = 2, workers: int = 2, more: str = "") -> None:
        self._more, self._workers = more, workers
        folder.mkdir(exist_ok=True, parents=True)
        self.folder, self.pacs, self.storage = folder, Pacs(), folder / "storage"
        self.postgres, self.scheduler = Postgres(), free_port()
        self.ports = [free_port() for _ in range(nodes)]
        self.tls = certificates(folder)
        self.programs: dict[str, Supervised] = {}
        self.programs["PostgreSQL"] = self.postgres.supervise(folder / "postgres.log")
        self._database_answers()
        if workers:
            settings = self._write("worker.toml", free_port())
            self.programs |= dask(folder, self.tls, self.scheduler, workers, settings)
        for n, port in enumerate(self.ports):
            config = self._write(f"node{n}.toml", port)
            run = [*SERVE, str(config)]
            self.programs[f"node {n}"] = Supervised("node", run, folder / f"node{n}.log")

    def _write(self, name: str, port: int) -> Path:
        path = self.folder / name
        path.write_text(
            f"tick_seconds = 0.2\nstorage = '{self.storage}'\ndatabase = '{self.postgres.url}'\n"
            f"[receive]\nport = {port}\nquiet_seconds = 2\nmin_free_mb = 1\nacceptors = 1\n"
            "[pairing]\nbetween_studies_minutes = 0.0\n"
            "[analysis]\ngrid_mm = 5\naccept_failed_checks = true\n"
            f"[jobs]\nmax_crashes = 999\nnice = 0\n{self._more}{self._engine() if self._workers else ''}"
            f"[[destinations]]\nname = 'pacs'\nae_title = 'PACS'\nhost = '127.0.0.1'\nport = {self.pacs.port}\n"
            "retry_seconds = 0.5\nmax_retry_seconds = 2\nobjects = ['seg', 'sr']\n"
        )
        return path

    def _engine(self) -> str:
        tls = {"certificate": self.tls["cert"], "key": self.tls["key"], "authorities": self.tls["ca"]}
        files = "".join(f"{key} = '{value}'\n" for key, value in tls.items())
        address = f"tls://127.0.0.1:{self.scheduler}"
        return f"engine = 'dask'\n[jobs.dask]\naddress = '{address}'\n[jobs.dask.tls]\n{files}"

    def database(self) -> Database:
        return Database(self.postgres.url)

    def ask(self, question: Callable[[Database], object]) -> object:
        """Return the answer of the database, or None while it is away."""
        try:
            database = self.database()
        except NodeError:
            return None
        try:
            return question(database)
        except NodeError:
            return None
        finally:
            database.close()

    def until(self, happened: Callable[[Database], object], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.ask(happened):
                return True
            time.sleep(0.5)
        return False

    def _database_answers(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                with sa.create_engine(self.postgres.url).connect():
                    return
            except sa.exc.OperationalError:
                time.sleep(0.2)
        raise SystemExit("PostgreSQL does not start")

    def close(self) -> None:
        for program in reversed(list(self.programs.values())):
            program.stop()
        self.postgres.remove()
        self.pacs.close()


def dask(
    folder: Path, tls: Mapping[str, Path], port: int, workers: int, config: Path
) -> dict[str, Supervised]:
    """Start a scheduler and workers, as `deploy/cluster` has them."""
    files = [f"--tls-ca-file={tls['ca']}", f"--tls-cert={tls['cert']}", f"--tls-key={tls['key']}"]
    words = ["--host", "127.0.0.1", "--protocol", "tls", "--port", str(port), "--no-dashboard"]
    run = [sys.executable, "-m", "dask", "scheduler", *words, *files]
    programs = {"scheduler": Supervised("scheduler", run, folder / "scheduler.log", QUICK)}
    for n in range(workers):
        words = [f"tls://127.0.0.1:{port}", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        words += ["--preload", "dicom_node.jobs.executors.watch"]
        words += ["--death-timeout", "30", "--local-directory", str(folder / f"dask{n}")]
        variables = {"DICOM_NODE_CONFIG": str(config), "OMP_NUM_THREADS": "1", **QUICK}
        run = [sys.executable, "-m", "dask", "worker", *words, *files]
        programs[f"worker {n}"] = Supervised("worker", run, folder / f"worker{n}.log", variables)
    return programs


#: Of Dask: how soon a worker that says nothing is given up.
QUICK = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "30s", "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}


def certificates(folder: Path) -> dict[str, Path]:
    """Make an authority and one certificate of it, which every part of the cluster shows."""
    files = {name: folder / f"cluster.{end}" for name, end in (("key", "key"), ("cert", "crt"))}
    ca, ca_key, request = folder / "ca.crt", folder / "ca.key", folder / "cluster.csr"
    new = ["-newkey", "rsa:2048", "-nodes"]
    alt = folder / "names"
    alt.write_text("subjectAltName=IP:127.0.0.1\n")
    for words in (
        ["req", "-x509", *new, "-days", "2", "-keyout", ca_key, "-out", ca, "-subj", "/CN=cluster"],
        ["req", *new, "-keyout", files["key"], "-out", request, "-subj", "/CN=dask"],
        ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", alt,
         "-days", "2", "-out", files["cert"]],
    ):  # fmt: skip
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    return {**files, "ca": ca}


def write_phantoms(folder: Path, count: int) -> list[Path]:
    """Return folders of one study each, both phases of a small phantom."""
    truth = thorax_phantom(shape=ThoraxShape(in_plane_mm=6.0, slice_mm=5))
    made = []
    for n in range(count):
        for number, (name, volume) in enumerate((("Insp", truth.inspiratory), ("Exp", truth.expiratory)), 1):
            scan = Scan(f"Thorax {name}", f"cluster {n}", number, patient_id=f"C{n}")
            write_ct_series(volume, folder / str(n) / name, scan)
        made.append(folder / str(n))
    return made


class Scanner:
    """Sends studies to the nodes in turn, again and again, and keeps what it was thanked for."""

    def __init__(self, folders: list[Path], ports: list[int], pause: float) -> None:
        self._folders, self._ports, self._pause = folders, ports, pause
        self.acknowledged, self.responses, self._over = set[str](), 0, threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._go_on, args=(p,), daemon=True) for p in ports]
        self._wanted = list(folders)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def send(self, folder: Path, port: int) -> int:
        command = ["storescu", "-v", "+sd", "+r", "-aec", "VQNODE", "127.0.0.1", str(port), str(folder)]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        uid = ""
        with self._lock:
            for line in (done.stdout + done.stderr).splitlines():
                if "Sending file: " in line:
                    uid = Path(line.split("Sending file: ")[1].strip()).stem
                elif "Received Store Response (Success)" in line:
                    self.acknowledged.add(uid)
                    self.responses += 1
        return done.returncode

    def _go_on(self, port: int) -> None:
        turn = random.Random(port)
        while not self._over.is_set():
            with self._lock:
                folder = self._wanted.pop(0) if self._wanted else turn.choice(self._folders)
            if self.send(folder, port):
                with self._lock:
                    self._wanted.insert(0, folder)
            self._over.wait(self._pause)
