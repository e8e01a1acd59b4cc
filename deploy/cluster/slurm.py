"""A Dask scheduler here, and its workers as jobs of SLURM, for ``jobs.engine = "dask"``.

    python deploy/cluster/slurm.py --workers 8 --config /shared/node.toml --tls /shared/cluster --memory 16GB

runs until Ctrl-C. `--tls` is a folder with ca.crt, host.crt and host.key that all machines see; the node names the
scheduler as tls://THIS-HOST:8786. Workers that SLURM ends are asked for again. Needs dask-jobqueue beside the extra
`dask`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from dask_jobqueue import SLURMCluster
from distributed import Security


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--config", type=Path, required=True, help="node.toml of the workers")
    parser.add_argument("--tls", type=Path, required=True)
    parser.add_argument("--memory", default="16GB", help="of one worker, which works on one case at a time")
    parser.add_argument("--walltime", default="12:00:00")
    parser.add_argument("--queue", default=None)
    parser.add_argument("--port", type=int, default=8786)
    parser.add_argument("--host", default=None, help="address that workers and nodes reach; all by default")
    given = parser.parse_args()
    files = {name: str((given.tls / name).absolute()) for name in ("ca.crt", "host.crt", "host.key")}
    roles = ("scheduler", "worker", "client")
    security = Security(
        require_encryption=True,
        tls_ca_file=files["ca.crt"],
        **{f"tls_{role}_cert": files["host.crt"] for role in roles},
        **{f"tls_{role}_key": files["host.key"] for role in roles},
    )
    cluster = SLURMCluster(
        queue=given.queue,
        # one thread: a worker that dies takes no neighbour's case with it; no nanny: SLURM starts it again
        cores=1,
        processes=1,
        nanny=False,
        memory=given.memory,
        walltime=given.walltime,
        python=sys.executable,
        protocol="tls://",
        security=security,
        scheduler_options={"port": given.port, "host": given.host, "dashboard": False},
        job_script_prologue=[f"export DICOM_NODE_CONFIG={given.config.absolute()}"],
        worker_extra_args=["--no-dashboard", "--preload", "dicom_node.jobs.executors.watch"],
        local_directory="/tmp",
    )
    # adaptation asks again for what SLURM ended; the number stays
    cluster.adapt(minimum=given.workers, maximum=given.workers)
    print(f"{cluster.scheduler_address}: {given.workers} workers asked for", flush=True)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    over.wait()
    cluster.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
