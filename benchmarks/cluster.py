"""Two nodes, two Dask workers, one PostgreSQL, one PACS: what becomes of images and results when one is killed.

``python benchmarks/cluster.py --kills 100 --studies 12`` (as root; needs dcmtk, PostgreSQL, openssl, the extra `dask`)
starts all of them on loopback, TLS between nodes, scheduler and workers, and sends small phantoms with storescu without
end. Meanwhile kill -9 ends a random one of worker, scheduler, node and PostgreSQL, again and again; a supervisor, as
systemd would, starts again whatever has ended. Afterwards every image that storescu was thanked for must be there, each
study must have one result, and the PACS must have each object, recorded as sent once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
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
from serving import ENVIRONMENT, Outcome, same, stored

from analysis.truth.phantom import ThoraxShape, thorax_phantom
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.errors import NodeError
from dicom_node.store.database import Database
from dicom_node.store.tables import delivery, job, result, study

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
    """A PostgreSQL of its own on a socket in `folder`, durable as it comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["chown", "postgres", str(folder)], check=True)
        self._bin = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self._run(f"{self._bin}/initdb -D {folder}/db -A trust >/dev/null")
        self.url = f"postgresql+psycopg://postgres@/postgres?host={folder}"

    def supervise(self, log: Path) -> Supervised:
        # the shared memory of a postmaster that was killed is freed once its children have seen it, in a second
        server = f"exec {self._bin}/postgres -D {self.folder}/db -k {self.folder} -c listen_addresses=''"
        server += " -c max_connections=400"
        return Supervised("PostgreSQL", ["su", "postgres", "-c", server], log)

    def _run(self, words: str) -> None:
        subprocess.run(["su", "postgres", "-c", words], check=True)


class Cluster:
    """Everything, on loopback, in one folder.

    Parameters
    ----------
    folder : Path
    nodes, workers : int
    more : str
        Further lines of [jobs].
    """

    def __init__(self, folder: Path, nodes: int = 2, workers: int = 2, more: str = "") -> None:
        self._more = more
        folder.mkdir(exist_ok=True, parents=True)
        folder.chmod(0o755)
        self.folder, self.pacs, self.storage = folder, Pacs(), folder / "storage"
        self.postgres, self.scheduler = Postgres(folder / "pg"), free_port()
        self.ports = [free_port() for _ in range(nodes)]
        self.tls = certificates(folder)
        self.programs: dict[str, Supervised] = {}
        self.programs["PostgreSQL"] = self.postgres.supervise(folder / "postgres.log")
        self._database_answers()
        files = [
            f"--tls-ca-file={self.tls['ca']}",
            f"--tls-cert={self.tls['cert']}",
            f"--tls-key={self.tls['key']}",
        ]
        words = ["--host", "127.0.0.1", "--protocol", "tls", "--port", str(self.scheduler), "--no-dashboard"]
        run = [sys.executable, "-m", "dask", "scheduler", *words, *files]
        self.programs["scheduler"] = Supervised("scheduler", run, folder / "scheduler.log", QUICK)
        settings = self._write("worker.toml", free_port())
        for n in range(workers):
            words = [f"tls://127.0.0.1:{self.scheduler}", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
            words += ["--preload", "dicom_node.jobs.executors.watch"]
            words += ["--death-timeout", "30", "--local-directory", str(folder / f"dask{n}")]
            variables = {"DICOM_NODE_CONFIG": str(settings), "OMP_NUM_THREADS": "1", **QUICK}
            run = [sys.executable, "-m", "dask", "worker", *words, *files]
            self.programs[f"worker {n}"] = Supervised("worker", run, folder / f"worker{n}.log", variables)
        for n, port in enumerate(self.ports):
            config = self._write(f"node{n}.toml", port)
            run = [*SERVE, str(config)]
            self.programs[f"node {n}"] = Supervised("node", run, folder / f"node{n}.log")

    def _write(self, name: str, port: int) -> Path:
        tls = {"certificate": self.tls["cert"], "key": self.tls["key"], "authorities": self.tls["ca"]}
        path = self.folder / name
        path.write_text(
            f"tick_seconds = 0.2\nstorage = '{self.storage}'\ndatabase = '{self.postgres.url}'\n"
            f"[receive]\nport = {port}\nquiet_seconds = 2\nmin_free_mb = 1\nacceptors = 1\n"
            "[pairing]\nbetween_studies_minutes = 0.0\n"
            "[analysis]\ngrid_mm = 5\naccept_failed_checks = true\n"
            f"[jobs]\nengine = 'dask'\nmax_crashes = 999\nnice = 0\n{self._more}"
            f"[jobs.dask]\naddress = 'tls://127.0.0.1:{self.scheduler}'\n[jobs.dask.tls]\n"
            + "".join(f"{key} = '{value}'\n" for key, value in tls.items())
            + f"[[destinations]]\nname = 'pacs'\nae_title = 'PACS'\nhost = '127.0.0.1'\nport = {self.pacs.port}\n"
            "retry_seconds = 0.5\nmax_retry_seconds = 2\nobjects = ['seg', 'sr']\n"
        )
        return path

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
        self.pacs.close()


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


def settled(studies: int) -> Callable[[Database], bool]:
    """Return a question: does every study have its result, and has every result been sent?"""

    def ask(database: Database) -> bool:
        with database.reading() as connection:
            done = connection.scalar(
                sa.select(sa.func.count(sa.distinct(job.c.study_uid))).where(job.c.state == "DONE")
            )
            open_jobs = connection.scalar(
                sa.select(sa.func.count()).select_from(job).where(job.c.state.in_(("READY", "RUNNING")))
            )
            queued = connection.scalar(
                sa.select(sa.func.count()).select_from(delivery).where(delivery.c.state == "QUEUED")
            )
            due = connection.scalar(
                sa.select(sa.func.count()).select_from(study).where(study.c.due_at.is_not(None))
            )
        return done == studies and not open_jobs and not queued and not due

    return ask


def cluster(folder: Path, kills: int, studies: int = 12, between: float = 2.0, seed: int = 1) -> Outcome:
    """kill -9 of a random worker, scheduler, node or PostgreSQL, under load."""
    moments, killed = random.Random(seed), Counter[str]()
    site = Cluster(folder)
    folders = write_phantoms(folder / "made", studies)
    sources = {path.stem: path for made in folders for path in made.rglob("*.dcm")}
    scanner = Scanner(folders, site.ports, 1.0)
    began = time.monotonic()
    try:
        scanner.start()
        while sum(killed.values()) < kills:
            time.sleep(moments.uniform(0.5, 1.5) * between)
            name = moments.choice(sorted(site.programs))
            site.programs[name].kill()
            killed[site.programs[name].name] += 1
        minutes = (time.monotonic() - began) / 60
        scanner.stop()
        for n, made in enumerate(folders):
            while scanner.send(made, site.ports[n % len(site.ports)]):
                time.sleep(1)
        assert site.until(settled(studies), 900), tail(site)
        print(json.dumps({"killed": killed, "minutes": round(minutes, 1), **figures(site)}), file=sys.stderr)
        return judge(site, scanner, sources, studies, f"{dict(killed)} in {minutes:.1f} min")
    finally:
        scanner.stop()
        site.close()


def figures(site: Cluster) -> dict[str, float]:
    """Return what the campaign cost: attempts and crashes of jobs, objects that came to the PACS more than once."""
    database = site.database()
    with database.reading() as connection:
        attempts, crashes = connection.execute(
            sa.select(sa.func.sum(job.c.attempt), sa.func.sum(job.c.crashes))
        ).one()
        tries = connection.scalar(sa.select(sa.func.sum(delivery.c.attempts)))
    database.close()
    again = sum(n - 1 for n in site.pacs.came.values())
    return {"attempts": attempts, "crashes": crashes, "delivery attempts": tries, "sent again": again}


def judge(site: Cluster, scanner: Scanner, sources: dict[str, Path], studies: int, what: str) -> Outcome:
    database = site.database()
    lost = scanner.acknowledged - stored(database, site.storage)
    lost |= {uid for uid, path in sources.items() if not same(database, site.storage, uid, path)}
    with database.reading() as connection:
        done = list(connection.scalars(sa.select(job.c.study_uid).where(job.c.state == "DONE")))
        made = {r.sop_instance_uid: r.path for r in connection.execute(sa.select(result))}
        sent = [
            r.sop_instance_uid
            for r in connection.execute(sa.select(delivery).where(delivery.c.state == "SENT"))
        ]
        every = connection.scalar(sa.select(sa.func.count()).select_from(delivery)) or 0
    database.close()
    lost |= {uid for uid in sent if uid not in site.pacs.came}
    lost |= {uid for uid, path in made.items() if not (site.storage / path).is_file()}
    doubled = len(done) - len(set(done)) + len(sent) - len(set(sent)) + every - len(sent)
    doubled += len(set(site.pacs.came) - set(made))
    what += f"; {len(set(done))} of {studies} studies analysed, {len(sent)} objects delivered"
    return Outcome("cluster", what, scanner.responses, len(lost), doubled, abs(len(done) - studies))


def tail(site: Cluster) -> str:
    return "\n".join(p.read_text(errors="replace")[-1500:] for p in sorted(site.folder.glob("*.log")))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--studies", type=int, default=12)
    parser.add_argument("--between", type=float, default=2.0, help="mean time between two kills (s)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended, too
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))
    outcome = cluster(folder, given.kills, given.studies, given.between, given.seed)
    print(outcome)
    return int(not outcome.well)


if __name__ == "__main__":
    sys.exit(main())
