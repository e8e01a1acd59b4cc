"""What a site does to a node besides killing it: parts of `faults.py`, each a folder -> its outcome."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fuzz import ACCEPTORS, acceptors
from serving import ENVIRONMENT, Outcome, Site

MEGABYTE = 1 << 20
#: The database's busy time-out, seconds (`dicom_node.store.database`).
BUSY_SECONDS = 30.0
#: Replaces the clocks of a Python process, and of those it starts, by ones that a file shifts.
SHIFTED = """
import datetime, time
real, shift = time.time, {file!r}
def now():
    with open(shift) as file:
        return real() + float(file.read() or 0)
class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(now(), tz)
time.time, datetime.datetime = now, Shifted
"""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own, so large."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(folder: Path, seconds: float) -> Outcome:
    """The disk has no room below the watermark, then fills under load, then has room again."""
    site = Site(folder, settings="min_free_mb = 20\n", storage="disk/storage")
    with small_disk(folder / "disk", 40) as disk:
        ballast = disk / "ballast"
        try:
            site.start()
            ballast.write_bytes(bytes(shutil.disk_usage(disk).free - 10 * MEGABYTE))
            command = ["storescu", "-aec", "VQNODE", "127.0.0.1", str(site.port), "+sd", str(site.folders[0])]
            done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
            watermark = "Local Limit Exceeded" in done.stdout + done.stderr
            site.kill()
            site.configure("min_free_mb = 0\n")
            site.start()
            ballast.write_bytes(bytes(shutil.disk_usage(disk).free + ballast.stat().st_size - MEGABYTE))
            site.senders.start()
            time.sleep(seconds)
            lost = site.lost(site.senders.pause())
            refused, drafts = (
                site.senders.refused,
                sum(p.is_file() for p in (site.storage / "incoming").rglob("*")),
            )
            ballast.unlink()
            site.senders.stop()
            outcome = site.judge(
                "full disk", f"{refused} images refused (0xA700), {drafts} drafts left, "
                f"association below the watermark {'rejected' if watermark else 'TAKEN'}", lost,
            )  # fmt: skip
            assert watermark
            assert refused
            assert not drafts
            return outcome
        finally:
            site.kill()


def locked(folder: Path, seconds: float) -> Outcome:
    """Another program holds the database's write lock: shortly, then for longer than the node waits."""
    site = Site(folder)
    try:
        site.start()
        site.senders.start()
        with closing(sqlite3.connect(site.storage / "node.db", isolation_level=None, timeout=60)) as other:
            for hold in (3.0, seconds):
                other.execute("BEGIN IMMEDIATE")
                time.sleep(hold)
                other.execute("ROLLBACK")
                time.sleep(5.0)
        site.senders.stop()
        what = f"write lock held by another program for 3 s, then for {seconds:.0f} s: {site.senders.refused} refused"
        return site.judge("database locked", what, set())
    finally:
        site.kill()


def clock(folder: Path, seconds: float) -> Outcome:
    """The node's clock is set ahead and back while it receives."""
    site, shift = Site(folder), folder / "shift"
    (folder / "clock").mkdir()
    (folder / "clock" / "sitecustomize.py").write_text(SHIFTED.format(file=str(shift)))
    days = (3, -2, 400, 0)
    shift.write_text("0")
    try:
        site.start({"PYTHONPATH": str(folder / "clock") + os.pathsep + os.environ.get("PYTHONPATH", "")})
        site.senders.start()
        for jump in days:
            time.sleep(seconds)
            shift.with_suffix(".new").write_text(str(jump * 86400))
            shift.with_suffix(".new").rename(shift)
        time.sleep(seconds)
        site.senders.stop()
        what = f"set to {', '.join(f'{jump:+d}' for jump in days)} days under load"
        return site.judge("clock", what, set())
    finally:
        site.kill()


def crowd(folder: Path, seconds: float) -> Outcome:
    """32 storescu at a time."""
    site = Site(folder, studies=16, senders=32)
    try:
        site.start()
        site.senders.start()
        time.sleep(seconds)
        site.senders.stop()
        return site.judge("32 senders", f"storescu for {seconds:.0f} s", set())
    finally:
        site.kill()


def order(folder: Path, _seconds: float) -> Outcome:
    """What the kernel is asked for before one C-STORE is answered, as strace sees it."""
    site = Site(folder, studies=1)
    try:
        site.start()
        trace = folder / "trace"
        calls = "trace=fdatasync,fsync,rename,renameat,renameat2,sendto"
        command = ["strace", "-f", "-y", "-qq", "-e", calls, "-o", str(trace)]
        where = ["-aec", "VQNODE", "127.0.0.1", str(site.port)]
        assert site.node is not None
        while len(processes := acceptors(site.node.pid)) < ACCEPTORS:
            subprocess.run(["echoscu", *where], env=ENVIRONMENT, check=True)
        for process in processes:
            command += ["-p", str(process.pid)]
        tracer = subprocess.Popen(command)
        time.sleep(3.0)
        path = sorted(site.folders[0].iterdir())[0]
        assert site.senders.send(path) == 0
        tracer.terminate()
        tracer.wait()
        found = steps(trace.read_text())
        assert found == ["draft synced", "named", "name synced", "row synced", "answered"], found
        return site.judge("power loss", "strace of a C-STORE: " + ", ".join(found), set())
    finally:
        site.kill()


def steps(trace: str) -> list[str]:
    """The order of what makes an instance durable and its answer, of strace's lines."""
    found: list[str] = []
    unfinished: dict[str, str] = {}
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        if "<unfinished" in call:
            unfinished[thread] = call
            if "sendto(" not in call:
                continue
        elif "resumed>" in call:
            call = unfinished.pop(thread, "") + call
            if "sendto(" in call:
                continue  # counted where it began
        if "fdatasync(" in call and "/incoming/" in call:
            found.append("draft synced")
        elif "rename" in call and "/archive/" in call:
            found.append("named")
        elif "sync(" in call and ("/archive/" in call or "node.db-wal" in call):
            what = "name synced" if "/archive/" in call else "row synced"
            if "named" in found and what not in found:
                found.append(what)
        elif "sendto(" in call and "named" in found and "answered" not in found:
            found.append("answered")
    return found
