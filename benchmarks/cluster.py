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
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from cluster_site import Cluster, Scanner, write_phantoms
from serving import Outcome, same, stored

from dicom_node.store.database import Database
from dicom_node.store.tables import delivery, job, result, study


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


def at_work(database: Database) -> bool:
    """Return whether a worker is at a job: kills that come before that cost nothing."""
    with database.reading() as connection:
        return connection.scalar(sa.select(job.c.id).where(job.c.worker != "").limit(1)) is not None


def cluster(folder: Path, kills: int, studies: int = 12, between: float = 2.0, seed: int = 1) -> Outcome:
    """kill -9 of a random worker, scheduler, node or PostgreSQL, under load."""
    moments, killed = random.Random(seed), Counter[str]()
    site = Cluster(folder)
    folders = write_phantoms(folder / "made", studies)
    sources = {path.stem: path for made in folders for path in made.rglob("*.dcm")}
    scanner = Scanner(folders, site.ports, 1.0)
    try:
        scanner.start()
        assert site.until(at_work, 600), tail(site)
        began = time.monotonic()
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
