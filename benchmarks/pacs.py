"""A sick PACS behind a bad network: a part of `faults.py`."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import sqlalchemy as sa
from receive import free_port
from serving import ENVIRONMENT, Outcome, start
from wire import Fault, Proxy

from dicom_node.store.database import Database
from dicom_node.store.tables import delivery

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from queued import queue

OBJECTS = 400


def sick_pacs(folder: Path, seconds: float) -> Outcome:
    """Results go to a real Orthanc that refuses, rejects, is slow, is cut off, or whose answers get lost."""
    folder.mkdir()
    storage, config, port = folder / "dicom-node-data", folder / "node.toml", free_port()
    storage.mkdir()
    database = Database(f"sqlite:///{storage / 'node.db'}", prepare=True)
    uids = [p.stem for p in queue(database, storage, "pacs", count=OBJECTS, size=64, now=time.time())]
    database.close()
    dicom, http = free_port(), free_port()
    rng = random.Random(1)

    def fault(number: int) -> Fault:
        if number % 6 == 5 or number > 60:
            return Fault()
        return (
            Fault(rejects=True),
            Fault(delay=0.05),
            Fault(cut_after=rng.randrange(200, 40_000)),
            Fault(loses_responses=True),
            Fault(cut_after=rng.randrange(20_000, 200_000)),
        )[number % 6]

    proxy = Proxy(dicom, fault)
    config.write_text(
        f"tick_seconds = 0.1\n[receive]\nport = {port}\nmin_free_mb = 1\n[[destinations]]\nname = 'pacs'\n"
        f"ae_title = 'ORTHANC'\nhost = '127.0.0.1'\nport = {proxy.port}\ntimeout = 3\nretry_seconds = 0.1\n"
        "max_retry_seconds = 0.5\nstorage_commitment = true\nconfirm_seconds = 5\n"
    )
    node = start(config, folder)
    time.sleep(3.0)  # nobody listens at the PACS: refused by its system
    pacs = orthanc(folder / "orthanc", dicom, http, port)
    try:
        states = until_ended(storage, seconds)
        kept = json.loads(get(http, "/instances?expand"))
        found = [one["MainDicomTags"]["SOPInstanceUID"] for one in kept]
    finally:
        for process in (node, pacs):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        proxy.close()
    confirmed = [uid for uid, state in states.items() if state == "CONFIRMED"]
    what = f"{proxy.injected} of {len(proxy.recordings)} connections hurt; {len(confirmed)} of {len(uids)} confirmed"
    lost = len(set(confirmed) - set(found)) + len(set(uids) - set(confirmed))
    return Outcome("PACS", what, len(confirmed), lost, len(found) - len(set(found)), 0)


def orthanc(folder: Path, dicom: int, http: int, node: int) -> subprocess.Popen[bytes]:
    """A PACS that reports storage commitment to the node."""
    folder.mkdir()
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomAet": "ORTHANC",
        "DicomPort": dicom,
        "HttpPort": http,
        "OverwriteInstances": False,
        "DicomModalities": {"node": ["VQNODE", "127.0.0.1", node]},
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    program = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin") or "Orthanc"
    with (folder / "log").open("wb") as log:
        command = [program, str(folder / "orthanc.json")]
        return subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)


def get(http: int, path: str) -> bytes:
    """Of Orthanc's REST API."""
    with urllib.request.urlopen(f"http://127.0.0.1:{http}{path}") as response:
        return bytes(response.read())


def until_ended(storage: Path, seconds: float) -> dict[str, str]:
    """The states of all deliveries, once none is on its way."""
    end, states = time.monotonic() + seconds, {"": "QUEUED"}
    database = Database(f"sqlite:///{storage / 'node.db'}")
    while {"QUEUED", "SENT"} & set(states.values()) and time.monotonic() < end:
        time.sleep(0.5)
        with database.reading() as connection:
            rows = connection.execute(sa.select(delivery.c.sop_instance_uid, delivery.c.state)).all()
        states = {row.sop_instance_uid: row.state for row in rows}
    database.close()
    return states
