"""How long each screen of the page, and each list of the API, takes with many studies in the database.

    python benchmarks/screens.py [--studies 100000] [--folder FOLDER] [--rounds 10]

Makes the database of `benchmarks/scrape.py` (10 images, a job, 12 deliveries and 5 events a study), with numbers of
every result, a DLCO of 1 study in 20, 1000 images in quarantine and one study of 800 slices, in a temporary folder, or
in FOLDER, where it is used again. Requests go into the application itself, without a socket: what is timed is the
server's work, from the request to the last byte of the answer. Prints wall and processor time (ms) of each; exits 1
where the median of a screen is not below 300 ms, or that of `/metrics` not below 100 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import sqlalchemy as sa
from scrape import BATCH, fill

from dicom_node.metrics.answers import Answers
from dicom_node.model import Header, Slice
from dicom_node.settings.config import Config, ReceiveSettings
from dicom_node.settings.destinations import FolderDestination
from dicom_node.settings.web import WebSettings
from dicom_node.store.database import Database
from dicom_node.store.heartbeat import Pulse
from dicom_node.store.keys import make_key
from dicom_node.store.page_tables import dlco
from dicom_node.store.tables import event, instance, outcome, quarantine, study
from dicom_node.strict_json import dump, encode
from dicom_node.web import users
from dicom_node.web.app import make_app
from dicom_node.web.process import close_site, open_site
from dicom_node.web.sessions import Sessions
from dicom_node.web.site import Site

#: Limits of the medians (ms).
SCREEN, METRICS = 300.0, 100.0
#: Visits of a patient, of how many studies one has a DLCO, and slices of a series.
VISITS, EVERY, SLICES = 5, 20, 400
#: A result whose files are there, and a study of two series with so many slices each, whose headers are whole.
JOB, STUDY = 4, "1.2.826.9999999999"
LISTS = {
    "worklist": "/studies",
    "worklist, page in the middle": "/studies?before=50000",
    "worklist, filter WAITING": "/studies?state=study:WAITING",
    "worklist, filter READY": "/studies?state=job:READY",
    "worklist, filter DONE": "/studies?state=job:DONE",
    "worklist, filter DEAD deliveries": "/studies?state=delivery:DEAD",
    "worklist, filter PAIRED": "/studies?state=study:PAIRED",
    "worklist, search for a UID": f"/studies?search={STUDY}",
    "worklist, search for a beginning": "/studies?search=1.2.826",
    "worklist, search for a series": "/studies?search=1.2.826.77.s1",
    "worklist, search for a job": "/studies?search=777",
    "worklist, search for a patient ID": "/studies?search=PATIENT-7",
    "study": f"/studies/{STUDY}",
    "result": f"/results/{JOB}",
    "cohort": f"/cohort?job={JOB}",
    "deliveries": "/deliveries",
    "system": "/system",
}


@dataclass(frozen=True)
class Timed:
    """The median, the longest and the processor time of a request (ms), and the size of its answer (bytes)."""

    median: float
    longest: float
    processor: float
    size: int


def more(database: Database, count: int) -> None:
    """Insert the numbers of every result, DLCO of some studies, and a quarantine."""
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        with database.writing() as connection:
            connection.execute(sa.insert(outcome), [_outcome(n) for n in numbers])
            entered = [_dlco(n) for n in numbers if n % EVERY == 3]
            connection.execute(sa.insert(dlco), entered)
    images = [
        {"sop_instance_uid": f"1.2.826.{n}.0", "sha256": "0" * 64, "path": f"quarantine/{n}", "received_at": float(n),
         "calling_ae": "CT1"}
        for n in range(min(1000, count))
    ]  # fmt: skip
    row = {
        "study_uid": STUDY,
        "state": "PAIRED",
        "reason": "",
        "search": "",
        "since": 0.0,
        "received_at": 0.0,
    }
    with database.writing() as connection:
        connection.execute(sa.insert(quarantine), images)
        connection.execute(sa.insert(study).values(**row, due_at=None))
        connection.execute(sa.insert(instance), [_whole(s, n) for s in (1, 2) for n in range(SLICES)])
        connection.execute(sa.insert(event), [_told(n) for n in range(40)])


def _outcome(n: int) -> dict[str, object]:
    share = 10 + n * 7919 % 4000 / 100
    values = {
        "total_abnormal": share,
        "dead_space": share / 2,
        "shunt": share / 4,
        "matched_defect": share / 4,
    }
    row = {"job_id": n + 1, "patient": f"p{n // VISITS}", "acquired": "20260101", "version": "1"}
    return {**row, "measures": encode(values)}


def _dlco(n: int) -> dict[str, object]:
    return {
        "study_uid": f"1.2.826.{n}",
        "percent": 40 + n % 60,
        "cohort": "A",
        "user": "benchmark",
        "at": 0.0,
    }


def _whole(series: int, n: int) -> dict[str, object]:
    """Return an image with the header of a CT slice of 0.8 mm."""
    uid, series_uid = f"{STUDY}.{series}.{n}", f"{STUDY}.{series}"
    place = (-180.0, -180.0, -0.8 * n), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.7, 0.7)
    cut = Slice(uid, 1, *place, 512, 512, 0.8, ("1", "B30f", "", "", ""))
    words = ("Thorax Insp" if series == 1 else "Thorax Exp", "", "", "")
    header = Header("1.2.840.10008.5.1.4.1.1.2", uid, series_uid, STUDY, "CT", (cut,), words)
    row = {"sop_class_uid": header.sop_class_uid, "transfer_syntax_uid": "1.2.840.10008.1.2.1", "sha256": ""}
    where = {"study_uid": STUDY, "series_uid": series_uid, "path": f"archive/00/{uid}", "size": 526_000}
    return {
        **row,
        **where,
        "sop_instance_uid": uid,
        "header": dump(header),
        "received_at": float(n),
        "calling_ae": "CT1",
    }


def _told(n: int) -> dict[str, object]:
    row = {"at": float(n), "kind": "stage", "study_uid": STUDY, "job_id": 1 + n // 10}
    return {**row, "about": f"stage {n % 10}", "text": "a stage of a job"}


def result_files(folder: Path) -> None:
    """Write the numbers of one result as a node keeps them."""
    numbers = {
        "total_abnormal": {"value": 31.5, "unit": "%"},
        "total_abnormal_sd": {"value": 1.5, "unit": "%"},
    }
    names = ("lungs", "right_lung", "left_lung", *(f"zone_{n}" for n in range(6)))
    check = {"check": "c", "verdict": "warn", "value": None, "unit": "1", "limit": "l", "sentence": "look"}
    content = {
        "schema": "vq-dicom-node measures 1", "software": "benchmark", "limits": "research", "pairing": "made",
        "parameters": {}, "measures": {name: numbers for name in names}, "quality": [check] * 10,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "measures.json").write_text(json.dumps(content))


def opened(folder: Path, studies: int) -> tuple[Site, str, str]:
    """The page with a filled database, the secret of a session and a token of an administrator."""
    share = FolderDestination("share", folder=folder)
    receive = ReceiveSettings(min_free_mb=1)
    config = Config(storage=folder, receive=receive, destinations=(share,), web=WebSettings())
    old = config.layout.database.exists()
    database = Database(config.database_url, prepare=True)
    if not old:
        begun = time.perf_counter()
        fill(database, studies)
        more(database, studies)
        make_key(config.layout, config.layout.patients_key)
        size = config.layout.database.stat().st_size / 1e6
        print(f"made in {time.perf_counter() - begun:.0f} s, {size:.0f} MB")
    result_files(config.layout.results_of(JOB))
    name = f"benchmark-{time.time():.0f}"
    users.add(database, name, "admin", "a password of this run", time.time())
    token = users.add_token(database, name, "admin", time.time())
    database.close()
    assert config.web is not None
    site = open_site(config, config.web)
    return site, Sessions.begin(site.sessions, users.User(name, "admin")), token


async def timed(client: httpx.AsyncClient, path: str, rounds: int) -> Timed:
    """Time one address, after one request that is not counted."""
    times, used, size = [], [], 0
    for number in range(rounds + 1):
        cpu, begun = time.process_time(), time.perf_counter()
        answer = await client.get(path)
        if number:
            times.append(1000 * (time.perf_counter() - begun))
            used.append(1000 * (time.process_time() - cpu))
        if answer.status_code != 200:
            raise SystemExit(f"{path}: {answer.status_code} {answer.text[:200]}")
        size = len(answer.content)
    return Timed(statistics.median(times), max(times), statistics.median(used), size)


async def measured(site: Site, secret: str, token: str, rounds: int) -> list[str]:
    """Print a row for each address, and return those that took too long."""
    pulse = Pulse("1", 0.0, 104, 2, 2, time.time())
    app = make_app(site, Answers(site.config, site.database, lambda: pulse).paths)
    slow = []
    print(
        "| screen | median ms | longest | processor ms | kB | API: median ms | processor ms |\n"
        + "|---" * 7
        + "|"
    )
    transport = httpx.ASGITransport(app)
    async with (
        httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", cookies={"vq": secret}
        ) as browser,
        httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers={"Authorization": f"Bearer {token}"}
        ) as program,
    ):
        for name, path in LISTS.items():
            page = await timed(browser, path, rounds)
            api = await timed(program, f"/api/v1{path}", rounds)
            row = f"{page.median:.0f} | {page.longest:.0f} | {page.processor:.0f} | {page.size / 1000:.0f}"
            print(f"| {name} | {row} | {api.median:.0f} | {api.processor:.0f} |", flush=True)
            slow += [name] if max(page.median, api.median) >= SCREEN else []
        metrics = await timed(browser, "/metrics", rounds)
        row = f"{metrics.median:.0f} | {metrics.longest:.0f} | {metrics.processor:.0f} | {metrics.size / 1000:.0f}"
        print(f"| /metrics | {row} | | |")
        slow += ["/metrics"] if metrics.median >= METRICS else []
    return slow


def main() -> None:
    """Fill, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        site, secret, token = opened(folder, chosen.studies)
        try:
            slow = asyncio.run(measured(site, secret, token, chosen.rounds))
        finally:
            close_site(site)
    if slow:
        sys.exit(f"too slow: {', '.join(slow)}")


if __name__ == "__main__":
    main()
