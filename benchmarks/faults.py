"""A node under load and what befalls it: is anything acknowledged lost, doubled, wrongly paired?

``python benchmarks/faults.py`` runs ``dicom-node serve`` with real ``storescu`` senders (dcmtk) and a real Orthanc
through every part: kill -9 of the whole process group at random moments, a disk that fills (a small tmpfs: as root), a
database that another program locks, clocks that are set, 32 senders at once, a PACS that refuses, is slow, is cut off
and loses its answers, thousands of associations, and the order of writes before an answer (needs strace). After every
kill, before anything is sent again, each image that storescu was thanked for is looked for. At the end of a part
everything is sent once more, in peace, and pairs and bytes are compared with what was made. The exit code is 1 where
anything was lost, doubled or wrongly paired.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from chaos import chaos
from cluster import cluster
from outages import clock, crowd, full_disk, locked, order
from pacs import sick_pacs
from serving import Outcome, Site
from soak import soak


def kills(folder: Path, count: int) -> Outcome:
    """kill -9 of the process group, at random moments, with four senders; every fourth while it starts."""
    site, moments, lost = Site(folder, studies=10), random.Random(1), set[str]()
    began = time.monotonic()
    site.senders.start()
    try:
        for turn in range(count):
            site.start(ready=turn % 4 != 3)
            time.sleep(moments.uniform(0.0, 1.5))
            site.kill()
            lost |= site.lost(site.senders.pause())
            site.senders.resume()
        site.senders.stop()
        minutes = (time.monotonic() - began) / 60
        site.start()
        return site.judge("kill -9", f"{count} times in {minutes:.1f} min", lost)
    finally:
        site.kill()


#: Each part, and how large it is: kills, associations, seconds, or minutes of chaos.
PARTS: Mapping[str, tuple[Callable[..., Outcome], int]] = {
    "kill": (kills, 200),
    "disk": (full_disk, 30),
    "lock": (locked, 80),
    "clock": (clock, 8),
    "crowd": (crowd, 60),
    "pacs": (sick_pacs, 300),
    "order": (order, 0),
    "soak": (soak, 10_000),
    "chaos": (chaos, 120),
    "chaos-postgresql": (partial(chaos, kind="postgresql"), 120),
    "cluster": (cluster, 100),
}
#: The parts that run only when asked for, since they need more than a node (`sh tests/cluster.sh`).
ASKED = {"cluster"}

#: The parts that are as random as their seed says.
SEEDED = {"chaos", "chaos-postgresql"}
SAID = {"chaos-postgresql": "The same chaos with PostgreSQL, which is stopped and made read-only."}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, (part, size) in PARTS.items():
        parser.add_argument(f"--{name}", type=int, help=f"{SAID.get(name) or part.__doc__} ({size})")
    parser.add_argument("--seed", type=int, default=1, help="of the chaos parts' faults (1)")
    given = vars(parser.parse_args())
    seed = given.pop("seed")
    options = {name.replace("_", "-"): size for name, size in given.items() if size is not None}
    wanted = options or {name: size for name, (_, size) in PARTS.items() if name not in ASKED}
    print(
        "| part | | acknowledged | lost | doubled | wrongly paired |\n|---|---|---|---|---|---|", flush=True
    )
    well = True
    for name, size in wanted.items():
        folder = Path(tempfile.mkdtemp(prefix="faults-"))
        try:
            seeded = {"seed": seed} if name in SEEDED else {}
            outcome = PARTS[name][0](folder / name, size, **seeded)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        well &= outcome.well
        print(
            f"| {outcome.part} | {outcome.what} | {outcome.acknowledged} | {outcome.lost} | {outcome.doubled} "
            f"| {outcome.wrongly_paired} |",
            flush=True,
        )
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
