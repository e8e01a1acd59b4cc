"""Everything at once: a part of `faults.py`. Random faults at random times under load, then quiet, then the count.

New studies come every few seconds, as series that are sent until every image was thanked for. Meanwhile each lane
chooses a fault of `chaos_faults`, lets it last, ends it, and rests. The node is started again by a service manager's
stand-in, which waits for the storage's mount as ``RequiresMountsFor=`` does. Then everything is made well, and within
five minutes every study must be decided, every job ended, and every result be at each destination once.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from chaos_faults import FAULTS, OF_DATABASE, WORKER_MB, Fault
from pacs import get, orthanc
from postgres import Server
from pydicom import dcmread
from receive import free_port
from serving import ENVIRONMENT, Outcome, Senders, answers, stored, wrongly_paired
from wire import Proxy

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from made import thorax

from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.errors import NodeError
from dicom_node.store.database import Database
from dicom_node.store.tables import delivery, instance, job, result, study

SHAPE, SPACING = (24, 40, 48), (5.0, 4.0, 3.75)
#: Seconds within which all must be decided once it is quiet.
QUIET_SECONDS = 300.0
#: Mean pause between two studies, and between two faults of a lane, seconds.
STUDY_SECONDS, REST_SECONDS = 40.0, 6.0
LANES = 3
#: The objects that each destination gets of a job.
SENT = ("seg", "sr")
NODE = [sys.executable, str(Path(__file__).with_name("chaos_node.py")), "serve", "--config"]
#: What a sender may write, and no database, log or terminal may take as it is.
HOSTILE = {
    "StudyInstanceUID": ["1." + 80 * "2", "1.2\x003", "1.2\n2026 INFO forged", "\x1b[2Jx"],
    "SeriesInstanceUID": ["1." + 80 * "3", "[/bold]"],
    "SeriesDescription": ["[/bold]\x1b[31m", 300 * "x", "\x00"],
}


def fixed_port() -> int:
    """Return a free port that no client gets by itself: one that calls it while nobody listens would meet itself."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Mount:
    """A folder that is mounted from elsewhere, and may be away: nothing can be written in its place then.

    docs/keeping.md tells administrators to make it so. Else a node that is started in that moment begins anew there.
    """

    def __init__(self, source: Path, at: Path) -> None:
        self.source, self.at = source, at
        source.mkdir(parents=True)
        at.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=4k", "tmpfs", str(at)], check=True)
        self.come()

    def come(self) -> None:
        """Mount it."""
        if not self.here:
            subprocess.run(["mount", "--bind", str(self.source), str(self.at)], check=True)

    def leave(self) -> None:
        """Take it away from under whoever uses it."""
        if self.here:
            subprocess.run(["umount", "-l", str(self.at)], check=False)

    @property
    def here(self) -> bool:
        """Return whether it is mounted."""
        return not os.statvfs(self.at).f_flag & os.ST_RDONLY

    def close(self) -> None:
        """Remove both mounts."""
        self.leave()
        subprocess.run(["umount", "-l", str(self.at)], check=False)


class Site:
    """A node with its storage, database, PACS and senders, all of which may fail."""

    def __init__(self, folder: Path, kind: str, seed: int) -> None:
        folder.mkdir()
        self.folder, self.port, self.disk = folder, fixed_port(), folder / "disk"
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200m", "tmpfs", str(self.disk)], check=True)
        self.storage, self.shelf = folder / "storage", folder / "shelf"
        self.mounts = {
            "storage": Mount(self.disk / "data", self.storage),
            "shelf": Mount(folder / "elsewhere", self.shelf),
        }
        self.server = Server() if kind == "postgresql" else None
        self.dicom, self.http = free_port(), free_port()
        self.pacs = orthanc(folder / "orthanc", self.dicom, self.http, self.port)
        self.proxy = Proxy(self.dicom)
        self.senders = Senders([], self.port, 0, seed)
        self.sources: dict[str, Path] = {}
        self.hostile, self.studies = set[str](), set[str]()
        self.quiet_since = 0.0
        self.starts = self.ends = 0
        self.config = folder / "node.toml"
        self.config.write_text(self._settings())
        self._ending, self._node = threading.Event(), self._started()
        self._keeper = threading.Thread(target=self._keep)
        self._keeper.start()

    def _settings(self) -> str:
        retry = f"retry_seconds = 0.5\nmax_retry_seconds = 8\nobjects = {list(SENT)}\n"
        return (
            f"storage = '{self.storage}'\ndatabase = '{self.server.url if self.server else ''}'\n"
            f"tick_seconds = 0.2\n[receive]\nport = {self.port}\nquiet_seconds = 2\nmin_free_mb = 0\n"
            "[pairing]\nbetween_studies_minutes = 0.0\n"  # all phantoms are one patient's
            f"[jobs]\nmemory_mb = {WORKER_MB}\nconcurrency = 2\nnice = 0\nmax_crashes = 5\n"
            f"[[destinations]]\nname = 'pacs'\nae_title = 'ORTHANC'\nhost = '127.0.0.1'\nport = {self.proxy.port}\n"
            f"timeout = 5\n{retry}[[destinations]]\nname = 'shelf'\nkind = 'folder'\nfolder = '{self.shelf}'\n{retry}"
        )

    @property
    def pid(self) -> int:
        """Return the node's own process."""
        return self._node.pid

    def _started(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        with (self.folder / "node.log").open("ab") as log:
            command = [*NODE, str(self.config)]
            return subprocess.Popen(command, stderr=log, env=ENVIRONMENT, start_new_session=True)

    def _keep(self) -> None:
        """Start the node again whenever it has ended, as a service manager does."""
        while not self._ending.wait(0.5):
            if self._node.poll() is not None:
                self._ending.wait(1.0)
                if self.mounts["storage"].here and not self._ending.is_set():
                    self._node = self._started()

    def close(self) -> None:
        """End everything that was started."""
        self._ending.set()
        self._keeper.join()
        for process in (self._node, self.pacs):
            subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
            process.wait()
        self.proxy.close()
        if self.server is not None:
            self.server.close()
        for mount in self.mounts.values():
            mount.close()
        subprocess.run(["umount", "-l", str(self.disk)], check=False)

    @contextmanager
    def looking(self) -> Iterator[Database]:
        """Open the node's database to look into it."""
        database = Database(self.server.url if self.server else f"sqlite:///{self.storage / 'node.db'}")
        try:
            yield database
        finally:
            database.close()

    def send_study(self, number: int, rng: random.Random, ending: threading.Event) -> None:
        """Make a study and send both its series until every image of them was thanked for."""
        for at, (phase, level) in enumerate((("Insp", -850), ("Exp", -750)), 1):
            made = self.folder / "made" / f"{number}-{phase}"
            scan = Scan(f"Thorax {phase}", f"chaos {number}", at, acquired=datetime(2026, 1, 1, 9, at))
            paths = write_ct_series(thorax(level, SHAPE, SPACING), made, scan)
            self.sources |= {path.stem: path for path in paths}
            self.studies.add(str(scan.uid(f"study {scan.study}")))
            while self.senders.send(made):
                ending.wait(rng.uniform(0.5, 3.0))

    def send_hostile(self, rng: random.Random) -> None:
        """Send one image whose header holds hostile values; it must be kept, and stop nothing."""
        if not self.sources:
            return
        keyword = rng.choice(list(HOSTILE))
        ds = dcmread(rng.choice(list(self.sources.values())))
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.{rng.getrandbits(60)}"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.1", f"1.2.826.1.{rng.getrandbits(30)}"
        # past pydicom's check, which would refuse to keep it
        ds[keyword]._value = rng.choice(HOSTILE[keyword])
        path = self.folder / "hostile" / f"{ds.SOPInstanceUID}.dcm"
        path.parent.mkdir(exist_ok=True)
        ds.save_as(path)
        self.hostile.add(path.stem)
        self.sources[path.stem] = path
        with suppress(OSError):
            self.senders.send(path)


def campaign(site: Site, minutes: float, seed: int, counts: Counter[str]) -> int:
    """Send and spoil for some minutes; how many studies were sent whole."""
    ending, sending = threading.Event(), []
    faults = {**FAULTS, **OF_DATABASE["postgresql" if site.server else "sqlite"]}
    busy = {name: threading.Lock() for name in faults}

    def lane(number: int) -> None:
        rng = random.Random(f"{seed} lane {number}")
        while not ending.wait(rng.expovariate(1 / REST_SECONDS)):
            name = rng.choice(list(faults))
            with busy[name]:  # a fault is never there twice
                _befall(site, name, faults[name], rng, ending, counts)

    lanes = [threading.Thread(target=lane, args=(number,)) for number in range(LANES)]
    for thread in lanes:
        thread.start()
    rng, end, count = random.Random(seed), time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end:
        sender = threading.Thread(target=site.send_study, args=(count, random.Random(count), ending))
        sender.start()
        sending.append(sender)
        count += 1
        time.sleep(rng.expovariate(1 / STUDY_SECONDS))
    ending.set()
    for thread in lanes:
        thread.join()
    site.quiet_since = time.monotonic()
    for thread in sending:
        thread.join(QUIET_SECONDS)
        assert not thread.is_alive(), "a sender gets no answer in peace"
    return count


def _befall(
    site: Site, name: str, fault: Fault, rng: random.Random, ending: threading.Event, counts: Counter[str]
) -> None:
    undo = fault.begin(site, rng)
    if undo is None:
        return
    counts[name] += 1
    print(f"  {time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
    ending.wait(rng.uniform(*fault.seconds))
    undo()


#: What is open in a node, by name -> the query that counts it.
OPEN = {
    "headers": sa.select(sa.func.count()).select_from(instance).where(
        instance.c.header.is_(None), instance.c.problem.is_(None)
    ),
    "studies": sa.select(sa.func.count()).select_from(study).where(
        study.c.due_at.is_not(None),
        study.c.state != "WAITING",  # decided: of a hostile image, whose other phase never comes
    ),
    "jobs": sa.select(sa.func.count()).select_from(job).where(job.c.state.in_(("READY", "RUNNING"))),
    "deliveries": sa.select(sa.func.count()).select_from(delivery).where(delivery.c.state == "QUEUED"),
}  # fmt: skip


def settle(site: Site) -> tuple[float, dict[str, int]]:
    """Wait until nothing is open; how long it took since it became quiet, and what is open still."""
    left: dict[str, int] = {"everything": 1}
    while sum(left.values()) and time.monotonic() - site.quiet_since < QUIET_SECONDS:
        time.sleep(1.0)
        with suppress(NodeError), site.looking() as database, database.reading() as connection:
            left = {name: int(connection.scalar(query) or 0) for name, query in OPEN.items()}
    return time.monotonic() - site.quiet_since, {name: n for name, n in left.items() if n}


def chaos(folder: Path, minutes: float, kind: str = "sqlite", seed: int = 1) -> Outcome:
    """Random faults of every kind at random times under load, then quiet."""
    site, counts = Site(folder, kind, seed), Counter[str]()
    try:
        answers(site.port, QUIET_SECONDS)
        count = campaign(site, minutes, seed, counts)
        seconds, left = settle(site)
        return _judge(site, count, seconds, left, counts)
    finally:
        site.close()
        shutil.copy(folder / "node.log", Path(folder.parent.parent) / f"chaos-{kind}-{seed}.log")


def _judge(site: Site, count: int, seconds: float, left: dict[str, int], counts: Counter[str]) -> Outcome:
    """Compare what is there with what was acknowledged and made."""
    acknowledged = site.senders.acknowledged
    pacs = [one["MainDicomTags"]["SOPInstanceUID"] for one in json.loads(get(site.http, "/instances?expand"))]
    shelf = {path.stem for path in site.shelf.glob("*.dcm")}
    with site.looking() as database:
        here = stored(database, site.storage)
        changed = sum(1 for uid in acknowledged & here if not _same(database, site, uid))
        _, wrong, odd = wrongly_paired(database, site.sources)
        with database.reading() as connection:
            states = Counter(connection.scalars(sa.select(job.c.state)))
            reasons = Counter(
                connection.scalars(sa.select(job.c.reason).where(job.c.state.in_(("FAILED", "REFUSED"))))
            )
            done = set(connection.scalars(sa.select(job.c.id).where(job.c.state == "DONE")))
            studies = set(connection.scalars(sa.select(study.c.study_uid)))
            sent = Counter(connection.scalars(sa.select(delivery.c.state)))
            columns = result.c.job_id, result.c.sop_instance_uid, delivery.c.destination
            ways = connection.execute(sa.select(*columns).join(delivery)).all()
            problems = connection.scalar(
                sa.select(sa.func.count()).select_from(instance).where(instance.c.problem.is_not(None))
            )
    sent_to = {"pacs": set(pacs), "shelf": shelf}
    missing = sum(uid not in sent_to[name] for _, uid, name in ways)
    each = Counter((number, name) for number, _, name in ways)
    missing += sum(each[number, name] != len(SENT) for number in done for name in sent_to)
    odd -= len(studies - site.studies)  # of hostile images
    print(f"\nfaults: {', '.join(f'{n} x {name}' for name, n in sorted(counts.items()))}")
    print(
        f"starts of the node: {site.starts}; unreadable images: {problems}, {len(site.hostile)} hostile were sent"
    )
    print(f"jobs: {dict(states)}; reasons: {dict(reasons)}; deliveries: {dict(sent)}; open: {left}")
    print(f"changed: {changed}; results not at a destination: {missing}; studies without one job: {odd}")
    lost = len(acknowledged - here) + changed + missing + sum(left.values())
    ended = ", ".join(f"{n} {state}" for state, n in states.items())
    what = (
        f"{sum(counts.values())} faults of {len(counts)} kinds in {count} studies' time; all decided"
        f" {seconds:.0f} s after; jobs: {ended}; {len(ways)} results delivered"
    )
    return Outcome(
        f"chaos, {'PostgreSQL' if site.server else 'SQLite'}",
        what,
        len(acknowledged),
        lost,
        len(pacs) - len(set(pacs)) + odd,
        wrong,
    )


def _same(database: Database, site: Site, uid: str) -> bool:
    with database.reading() as connection:
        path = connection.scalar(sa.select(instance.c.path).where(instance.c.sop_instance_uid == uid))
    if path is None:
        return False
    here, sent = _data_set(site.storage / path), _data_set(site.sources[uid])
    if uid in site.hostile:  # storescu writes some of their values anew, as a UID with a line break
        pixels = 2 * SHAPE[1] * SHAPE[2]
        return here[-pixels:] == sent[-pixels:]
    return here == sent


def _data_set(path: Path) -> bytes:
    """The bytes of a file behind its File Meta Information (PS3.10 7.1)."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]
