"""How much slower images are received while people look: `python benchmarks/viewers.py FOLDER`.

Prints images/s of a node with its page, alternately with nobody looking and with 20 viewers: each holds the stream of
events open as the worklist does, and loads the worklist anew whenever an event says that something changed. The viewers
run on this machine in a process of their own (nice 19), so that what they need counts against the node, too; a second
ratio is of the processor time of the node alone. Senders and FOLDER are as in `benchmarks/receive.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from receive import ENVIRONMENT, cpu_seconds, free_port, make_slices, send, wait_idle, wait_ready

from dicom_node.store.database import Database
from dicom_node.web import users

VIEWERS = 20
#: Until all of them hold their stream (s).
VIEWERS_START_SECONDS = 5.0


@dataclass(frozen=True)
class Run:
    """Images/s, the node's processor time an image (ms), and how many events and pages the viewers got."""

    rate: float
    processor: float
    looked: tuple[int, int] = (0, 0)


def look(base: str, token: str) -> None:
    """Be the viewers until stdin ends, and print how many events and pages came."""
    os.nice(19)
    events, pages = [0] * VIEWERS, [0] * VIEWERS
    client = httpx.Client(
        base_url=base,
        headers={"Authorization": f"Bearer {token}"},
        timeout=None,
        limits=httpx.Limits(max_connections=3 * VIEWERS),
    )

    def one(number: int) -> None:
        mark = None
        with client.stream("GET", "/live") as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    events[number] += 1
                    told = json.loads(line[6:]).get("mark")
                    if told != mark:
                        pages[number] += client.get("/api/v1/studies").status_code == 200
                    mark = told

    for number in range(VIEWERS):
        threading.Thread(target=one, args=(number,), daemon=True).start()
    sys.stdin.read()
    print(json.dumps([sum(events), sum(pages)]), flush=True)
    os._exit(0)


def measure(slices: list[Path], disk: Path, viewers: bool) -> Run:
    """Send to one fresh node with a page."""
    port, page = free_port(), free_port()
    folder = Path(tempfile.mkdtemp(dir=disk))
    (folder / "node.toml").write_text(
        f"[receive]\nport = {port}\nmin_free_mb = 1\nquiet_seconds = 3600\n[web]\nport = {page}\n"
    )
    start = "from dicom_node.commands.app import main; main()"
    command = [sys.executable, "-c", start, "serve", "--config", str(folder / "node.toml")]
    base, watching = f"http://127.0.0.1:{page}", None
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_ready(port)
        file = next(folder.rglob("node.db"))
        token = users.add_token(Database(f"sqlite:///{file}"), "viewers", "viewer", time.time())
        wait_page(base)
        if viewers:
            order = [sys.executable, __file__, "--look", base, token]
            watching = subprocess.Popen(order, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        os.sync()
        time.sleep(VIEWERS_START_SECONDS if viewers else 0)
        wait_idle(process.pid)
        before = cpu_seconds(process.pid)
        seconds = send(slices, port)
        spent = cpu_seconds(process.pid) - before
        looked = (0, 0)
        if watching is not None:
            out, _ = watching.communicate("")
            looked = tuple(json.loads(out))
    finally:
        process.terminate()
        process.wait(60)
        if watching is not None:
            watching.kill()
    sent = sum(len(list(one.iterdir())) for one in slices)
    return Run(sent / seconds, 1000 * spent / sent, looked)


def wait_page(base: str) -> None:
    """Return once the page answers."""
    end = time.monotonic() + 120
    while True:
        try:
            httpx.get(f"{base}/login", timeout=5)
            return
        except httpx.HTTPError:
            if time.monotonic() > end:
                raise SystemExit("the page does not answer") from None
            time.sleep(0.2)


def main() -> None:
    """Measure and print the ratios."""
    if sys.argv[1:2] == ["--look"]:
        look(*sys.argv[2:4])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--images", type=int, default=640, help="a measurement, shared by the senders")
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        disk = Path(name)
        slices = [disk / f"{n}" for n in range(chosen.senders)]
        for folder in slices:
            make_slices(folder, chosen.images // chosen.senders)
        pairs = []
        for _ in range(chosen.rounds):
            alone, beside = (measure(slices, disk, viewers) for viewers in (False, True))
            pairs.append((alone, beside))
            print(f"alone {alone.rate:.0f}/s, {alone.processor:.1f} ms; beside {beside.rate:.0f}/s, "
                  f"{beside.processor:.1f} ms; events and pages {beside.looked}", flush=True)  # fmt: skip
    rate = statistics.median(beside.rate / alone.rate for alone, beside in pairs)
    spent = statistics.median(beside.processor / alone.processor for alone, beside in pairs)
    print(
        f"beside {VIEWERS} viewers: {rate:.2f} times the images/s, {spent:.2f} times the processor time an image"
    )


if __name__ == "__main__":
    main()
