"""A real SLURM on this machine runs workers of a Dask cluster and an array of parts: run by `sh tests/cluster.sh`."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import authority
from peers import free_port
from tiny import SETTINGS, tiny_thorax

from dicom_node.research.whole_folder import holds_result

pytestmark = pytest.mark.slow
distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")

SLURM = Path(__file__).parents[2] / "deploy" / "cluster" / "slurm.py"


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment that names a SLURM of this machine, in processes of this test."""
    if os.geteuid() or not shutil.which("slurmctld") or not shutil.which("slurmd"):
        pytest.skip("SLURM is not installed, or this is not root")
    host, folder = socket.gethostname().split(".")[0], tmp_path
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir()
    key, meeting = folder / "munge" / "key", folder / "munge" / "socket"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    conf.write_text(
        f"ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={free_port()}\nSlurmdPort={free_port()}\n"
        f"SlurmUser=root\nSlurmdUser=root\nAuthType=auth/munge\nAuthInfo=socket={meeting}\n"
        f"StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool\nProctrackType=proctrack/pgid\n"
        f"TaskPlugin=task/none\nSelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nReturnToService=2\n"
        f"SlurmctldPidFile={folder}/ctld.pid\nSlurmdPidFile={folder}/d.pid\nMpiDefault=none\n"
        f"SlurmctldLogFile={folder}/ctld.log\nSlurmdLogFile={folder}/d.log\n"
        f"NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory=4000\n"
        f"PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP\n"
    )
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    munged = ["munged", "-F", "-f", f"--key-file={key}", f"--socket={meeting}", f"--pid-file={folder}/m.pid"]
    munged += [f"--log-file={folder}/m.log", f"--seed-file={folder}/m.seed"]
    started = [subprocess.Popen(munged, env=environment)]
    try:
        wait(meeting.exists)
        for daemon in ("slurmctld", "slurmd"):
            started.append(subprocess.Popen([daemon, "-D", "-f", str(conf)], env=environment))
        wait(lambda: "idle" in run(environment, "sinfo", "-h", "-o", "%T"))
        yield environment
    finally:
        try:
            run(environment, "scancel", "--full", f"--user={os.getuid()}")
            wait(
                lambda: not run(environment, "squeue", "-h")
            )  # else a job outlives the daemon that is to end it
        finally:
            for process in reversed(started):
                process.kill()
                process.wait()


def run(environment: dict[str, str], *words: str) -> str:
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False).stdout


def wait(happened: object, seconds: float = 60.0) -> None:
    assert callable(happened)
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_slurm_runs_our_workers_and_is_asked_again_for_one_that_it_ended(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    made = authority(tmp_path, "cluster")
    tls = tmp_path / "tls"
    tls.mkdir()
    for source, name in (
        (made.authorities, "ca.crt"),
        (made.certificate, "host.crt"),
        (made.key, "host.key"),
    ):
        shutil.copy(source, tls / name)
    port, config = free_port(), tmp_path / "node.toml"
    config.write_text("")
    words = ["--workers", "1", "--config", str(config), "--tls", str(tls), "--memory", "1GB"]
    words += ["--host", "127.0.0.1", "--port", str(port)]
    runs = subprocess.Popen([sys.executable, str(SLURM), *words], env=slurm, cwd=tmp_path)
    security = distributed.Security(
        require_encryption=True,
        tls_ca_file=str(made.authorities),
        tls_client_cert=str(made.certificate),
        tls_client_key=str(made.key),
    )
    try:
        client = distributed.Client(
            f"tls://127.0.0.1:{port}", security=security, timeout=60, set_as_default=False
        )
        wait(lambda: len(client.nthreads()) == 1, 120)
        named = client.run(os.getenv, "DICOM_NODE_CONFIG")
        assert set(named.values()) == {str(config)}
        (first,) = client.nthreads()
        (number,) = run(slurm, "squeue", "-h", "-o", "%A").split()
        run(slurm, "scancel", number)
        wait(lambda: client.nthreads() and first not in client.nthreads(), 120)
        client.close()
    finally:
        runs.terminate()
        runs.wait(30)


def test_an_array_of_slurm_shares_a_batch_by_parts(slurm: dict[str, str], tmp_path: Path) -> None:
    made, table, results = tiny_thorax(tmp_path / "tiny"), tmp_path / "cases.csv", tmp_path / "results"
    lines = [f"case{n},{made.insp},{made.exp},{made.field}" for n in range(3)]
    table.write_text("\n".join(["case,inspiratory,expiratory,field", *lines, "gone,a.nii,b.nii,"]) + "\n")
    program = [sys.executable, "-c", "from dicom_node.commands.app import main; main()"]
    words = shlex.join([*program, "batch", str(table), str(results), "--quiet", *SETTINGS])
    log = f"--output={tmp_path}/part-%a.log"
    run(
        slurm,
        "sbatch",
        "--array=1-3",
        log,
        f"--chdir={tmp_path}",
        "--wrap",
        f"{words} --part $SLURM_ARRAY_TASK_ID/3",
    )
    wait(lambda: len(list(results.glob("batch-*-of-3.csv"))) == 3, 900)
    wait(lambda: not run(slurm, "squeue", "-h"), 900)
    logs = [path.read_text() for path in sorted(tmp_path.glob("part-*.log"))]
    for n in range(3):
        with (results / f"batch-{n + 1}-of-3.csv").open(newline="") as file:
            found = {row["case"]: row["state"] for row in csv.DictReader(file)}
        assert found == {f"case{n}": "done"} | ({"gone": "failed"} if n == 0 else {}), logs
        assert holds_result(results / f"case{n}")
