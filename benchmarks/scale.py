"""How many cases an hour with 1, 10, 100 and 1000 workers, and what is full first: a simulation with measured costs.

``python benchmarks/scale.py COSTS.json FIGURE.png`` takes what `benchmarks/engines.py` measured on one machine and
plays a queue of cases through one node, one Dask scheduler, one PostgreSQL and one storage. Each of the four does one
thing at a time, in the order in which it is asked; each worker does one case after another, and waits where it must. So
the figure is of a site whose shared machines are as fast as the one that was measured, however many workers it has.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WORKERS = (1, 3, 10, 30, 100, 300, 1000)
#: A pair of 2 x 300 slices of 512 x 512; processor time and results of a case as docs/validation.md has them measured.
IMAGES, IMAGES_MB = 600, 315.0
CASE_SECONDS, RESULTS_MB = 116.0, 238.0
#: Processor time of a node with an image, its header included (docs/operating.md), and how many cores a node has.
IMAGE_SECONDS, NODE_CORES = 0.0052, 2
#: Transactions of a case beside those of each second (`jobs.queue`, `jobs.worker`, `delivery.queue`): two of each image
#: at the most, since nodes write rows together; and reads.
WRITES, READS = 2 * IMAGES + 12, 12
#: While a case is computed its progress is written and its attempt asked for once a second; played in steps of (s).
STEP_SECONDS = 4.0
#: Cases of each worker that are played; the first and the last are not counted.
CASES = 8


@dataclass(frozen=True)
class Costs:
    """Hold how long each shared part is busy (s).

    Attributes
    ----------
    write, read : float
        A transaction of the database: its processor time, since commits that wait for the disk wait together.
    keep, give : float
        The storage, to keep a MB durably and to give one back. Images and results are written once and read once.
    task : float
        The scheduler, with a case.
    asking : (float, float)
        The node, with a question which workers are free: a constant and a share of each worker.
    """

    write: float
    read: float
    keep: float
    give: float
    task: float
    asking: tuple[float, float]

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> Costs:
        """Take the costs from what `engines.py` wrote; of repeated measurements the median."""
        sizes = [float(size) for size in measured["asking"]]
        slope, constant = np.polyfit(sizes, list(measured["asking"].values()), 1)
        return cls(
            write=measured["database"]["cpu of a write"],
            read=measured["database"]["cpu of a read"],
            keep=1 / measured["disk"]["write"],
            give=1 / measured["disk"]["read"],
            task=statistics.median(measured["dispatch"]["dask 1"]),
            asking=(max(float(constant), 0.0), max(float(slope), 0.0)),
        )

    def node(self, workers: int) -> float:
        """Return how long the node is busy with a case (s): it receives it, and asks once which workers are free."""
        return IMAGES * IMAGE_SECONDS / NODE_CORES + self.asking[0] + self.asking[1] * workers

    def of_case(self, workers: int) -> dict[str, float]:
        """Return how long each shared part is busy with one case (s)."""
        return {
            "storage": (self.keep + self.give) * (IMAGES_MB + RESULTS_MB),
            "node": self.node(workers),
            "database": self.write * (WRITES + CASE_SECONDS) + self.read * (READS + CASE_SECONDS),
            "scheduler": self.task,
        }


@dataclass
class Part:
    """A shared part, which does one thing at a time."""

    free_at: float = 0.0
    busy: float = 0.0

    def serve(self, at: float, seconds: float) -> float:
        """Return when something that is asked for at a time is done."""
        self.free_at = max(self.free_at, at) + seconds
        self.busy += seconds
        return self.free_at


@dataclass
class Site:
    """The shared parts, by name."""

    parts: dict[str, Part] = field(
        default_factory=lambda: {name: Part() for name in ("storage", "node", "database", "scheduler")}
    )


def steps_of(costs: Costs, workers: int) -> Iterator[tuple[str, float]]:
    """Yield what happens with a case: a part and for how long; "" is the worker itself."""
    yield "node", costs.node(workers)
    yield "storage", costs.keep * IMAGES_MB
    yield "database", WRITES * costs.write + READS * costs.read
    yield "scheduler", costs.task
    yield "storage", costs.give * IMAGES_MB
    for _ in range(int(CASE_SECONDS / STEP_SECONDS)):
        yield "", STEP_SECONDS
        yield "database", STEP_SECONDS * (costs.write + costs.read)
    yield "storage", (costs.keep + costs.give) * RESULTS_MB


def play(costs: Costs, workers: int) -> tuple[float, dict[str, float]]:
    """Return cases an hour, and the share of time in which each part is busy, with so many workers."""
    site, turn, chance = Site(), itertools.count(), random.Random(workers)
    under_way = [iter(steps_of(costs, workers)) for _ in range(workers)]
    left = [CASES] * workers
    # the workers are not in step
    events = [(chance.uniform(0, CASE_SECONDS), next(turn), n) for n in range(workers)]
    heapq.heapify(events)
    ends: list[float] = []
    while events:
        now, _, worker = heapq.heappop(events)
        step = next(under_way[worker], None)
        if step is None:
            ends.append(now)
            left[worker] -= 1
            if left[worker]:
                under_way[worker] = iter(steps_of(costs, workers))
                heapq.heappush(events, (now, next(turn), worker))
            continue
        part, seconds = step
        done = now + seconds if not part else site.parts[part].serve(now, seconds)
        heapq.heappush(events, (done, next(turn), worker))
    low, high = len(ends) // 4, 3 * len(ends) // 4
    hourly = 3600 * (high - low) / (ends[high] - ends[low])
    return hourly, {name: costs.of_case(workers)[name] * hourly / 3600 for name in site.parts}


def full_at(costs: Costs) -> dict[str, float]:
    """Return for each part how many workers fill it when no other part makes them wait."""
    found = {}
    for name in costs.of_case(1):
        low, high = 1.0, 1e7
        while high / low > 1.001:
            middle = (low * high) ** 0.5
            busy = costs.of_case(int(middle))
            alone = CASE_SECONDS + sum(busy.values())
            low, high = (middle, high) if middle * busy[name] / alone < 1 else (low, middle)
        found[name] = low
    return found


def draw(found: Mapping[int, tuple[float, dict[str, float]]], costs: Costs, path: Path) -> None:
    """Draw cases an hour and how busy each part is."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    workers = list(found)
    left.loglog(workers, [found[n][0] for n in workers], "o-", color="#0072B2", label="simulated")
    first = found[workers[0]][0]
    left.loglog(workers, [first * n for n in workers], "--", color="#999999", label="linear")
    left.set_ylabel("cases an hour")
    colours = {"database": "#D55E00", "storage": "#009E73", "scheduler": "#CC79A7", "node": "#E69F00"}
    for name, colour in colours.items():
        right.semilogx(workers, [100 * found[n][1][name] for n in workers], "o-", color=colour, label=name)
    right.set_ylabel("share of time in which it is busy, %")
    right.set_ylim(0, 105)
    for axes in (left, right):
        axes.set_xlabel("workers, one case at a time each")
        axes.grid(True, which="major", alpha=0.3)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("costs", type=Path)
    parser.add_argument("figure", type=Path)
    given = parser.parse_args()
    costs = Costs.of(json.loads(given.costs.read_text()))
    found = {n: play(costs, n) for n in WORKERS}
    names = list(costs.of_case(1))
    print(
        f"| workers | cases an hour | of linear | {' | '.join(names)} |\n|---|---|---|" + "---|" * len(names)
    )
    for n, (hourly, busy) in found.items():
        shares = " | ".join(f"{100 * busy[name]:.1f} %" for name in names)
        print(f"| {n:,} | {hourly:,.0f} | {100 * hourly / (n * found[1][0]):.0f} % | {shares} |")
    print("\n| part | busy with a case, s | full at workers |\n|---|---|---|")
    for name, at in sorted(full_at(costs).items(), key=lambda one: one[1]):
        print(f"| {name} | {costs.of_case(int(at))[name]:.3f} | {at:,.0f} |")
    draw(found, costs, given.figure)


if __name__ == "__main__":
    main()
