"""Two nodes, two Dask workers over TLS and one PostgreSQL, as programs: run by `sh tests/cluster.sh`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from cluster_site import Cluster, Scanner, write_phantoms  # noqa: E402

from dicom_node.jobs import queue as jobs  # noqa: E402
from dicom_node.store.database import Database  # noqa: E402
from dicom_node.store.tables import job  # noqa: E402

pytestmark = pytest.mark.slow
distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")

#: A program that draws lobes and takes ten minutes for it: a case that is at work until it is ended.
ENDLESS = 'lobes_command = ["/bin/sh", "-c", "sleep 611 # {ct} {lobes}"]\n'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if os.geteuid():
        pytest.skip("only root starts PostgreSQL as its user")
    folder = tmp_path_factory.mktemp("cluster")
    site = Cluster(folder, more=ENDLESS)
    studies = write_phantoms(folder / "made", 2)
    scanner = Scanner(studies, site.ports, 1.0)
    try:
        for study, port in zip(studies, site.ports, strict=True):
            wait(lambda s=study, p=port: scanner.send(s, p) == 0)  # type: ignore[misc]
        yield site
    finally:
        site.close()


def wait(happened: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.2)


def rows(database: Database) -> list[Any]:
    columns = job.c.id, job.c.state, job.c.attempt, job.c.crashes, job.c.worker
    with database.reading() as connection:
        return list(connection.execute(sa.select(*columns).order_by(job.c.id)))


def at_work(site: Cluster) -> list[Any]:
    """The two jobs, once a worker of its own is busy with each."""

    def both(database: Database) -> bool:
        found = rows(database)
        states = [row.state == "RUNNING" and row.worker != "" for row in found]
        return len(found) == 2 and all(states) and len(sleepers()) == 2

    assert site.until(both, 180), rows(site.database())
    return rows(site.database())


def sleepers() -> list[str]:
    found = subprocess.run(["pgrep", "-x", "-f", "sleep 611"], capture_output=True, text=True, check=False)
    return found.stdout.split()


def test_a_client_without_our_certificate_does_not_get_in(site: Cluster, tmp_path: Path) -> None:
    from certificates import authority

    stranger = authority(tmp_path, "stranger")
    address = f"tls://127.0.0.1:{site.scheduler}"
    for shown in (
        {},
        {"tls_client_cert": str(stranger.certificate), "tls_client_key": str(stranger.key)},
    ):
        security = distributed.Security(tls_ca_file=str(site.tls["ca"]), require_encryption=True, **shown)
        with pytest.raises((OSError, TypeError)):
            distributed.Client(address, security=security, timeout=5, set_as_default=False)
    with pytest.raises(OSError, match=r"(?i)connect|timed out"):
        distributed.Client(f"tcp://127.0.0.1:{site.scheduler}", timeout=5, set_as_default=False)


def test_a_worker_that_dies_costs_one_attempt_of_its_own_job(site: Cluster) -> None:
    before = {row.id: row for row in at_work(site)}
    victim = before[min(before)]
    pid = int(victim.worker.rpartition(":")[2])
    os.kill(pid, 9)
    site.until(lambda database: rows(database)[0].attempt == victim.attempt + 1, 120)
    mine, other = at_work(site)
    assert (mine.attempt, mine.crashes) == (victim.attempt + 1, victim.crashes + 1)
    assert (other.attempt, other.crashes, other.worker) == before[other.id][2:5]


def test_a_scheduler_that_dies_is_connected_to_again_and_blames_no_job(site: Cluster) -> None:
    before = at_work(site)
    site.programs["scheduler"].kill()
    assert site.until(
        lambda database: all(r.attempt > b.attempt for r, b in zip(rows(database), before, strict=True)), 180
    )
    after = at_work(site)
    assert [row.crashes for row in after] == [row.crashes for row in before]


def test_cancel_ends_the_child_at_once(site: Cluster) -> None:
    first, other = at_work(site)
    database = site.database()
    jobs.cancel(database, first.id, time.time())
    wait(lambda: len(sleepers()) == 1, 5)
    jobs.cancel(database, other.id, time.time())
    wait(lambda: not sleepers(), 5)
    database.close()
    assert [row.state for row in rows(site.database())] == ["CANCELLED", "CANCELLED"]


def test_nothing_acknowledged_is_lost_when_anything_is_killed() -> None:
    command = [sys.executable, str(BENCHMARKS / "cluster.py"), "--kills", "10", "--studies", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
