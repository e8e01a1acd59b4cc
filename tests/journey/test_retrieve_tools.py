"""dcmtk's findscu, getscu and movescu meet what the node delivered to Orthanc, and bring it back to the node."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from peers import dcmtk, free_port, orthanc
from pydicom import dcmread
from queued import queue, states

from dicom_node.node.node import Node
from dicom_node.node.status import status
from dicom_node.settings.config import Config, ReceiveSettings
from dicom_node.settings.destinations import CStoreDestination
from dicom_node.store.database import Database


def wait_until(happened: object, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.1)


def keys(level: str, study: str, *more: str) -> list[str]:
    wanted = [f"QueryRetrieveLevel={level}", f"StudyInstanceUID={study}", *more]
    return [part for key in wanted for part in ("-k", key)]


def test_delivered_results_are_found_got_and_moved(tmp_path: Path) -> None:
    storage, here = tmp_path / "storage", free_port()
    storage.mkdir()
    database = Database(f"sqlite:///{storage / 'node.db'}", prepare=True)
    made = {str(dcmread(p).SOPInstanceUID): p for p in queue(database, storage, "pacs", now=time.time())}
    first = dcmread(next(iter(made.values())))
    study, series = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
    known: dict[str, Any] = {"DicomModalities": {"node": ["VQNODE", "127.0.0.1", here]}}
    with orthanc(tmp_path / "orthanc", **known) as peer:
        pacs = CStoreDestination("pacs", ae_title="ORTHANC", host="127.0.0.1", port=peer.port)
        receive = ReceiveSettings(port=here, min_free_mb=1)
        node = Node(Config(storage=storage, tick_seconds=0.1, receive=receive, destinations=(pacs,)))
        node.start()
        try:
            wait_until(lambda: states(database) == {"SENT"})
            wait_until(lambda: dcmtk("echoscu", "127.0.0.1", str(here), check=False).returncode == 0)
            there = ["-S", "-aet", "VQNODE", "-aec", "ORTHANC"], ["127.0.0.1", str(peer.port)]

            level = keys("IMAGE", study, f"SeriesInstanceUID={series}", "SOPInstanceUID")
            said = dcmtk("findscu", "-v", *there[0], *level, *there[1])
            assert set(re.findall(r"\(0008,0018\) UI \[([0-9.]+)", said.stdout + said.stderr)) == set(made)

            got = tmp_path / "got"
            got.mkdir()
            dcmtk("getscu", *there[0], *keys("STUDY", study), "-od", str(got), *there[1])
            assert {str(dcmread(path).SOPInstanceUID) for path in got.iterdir()} == set(made)

            dcmtk("movescu", *there[0], "-aem", "VQNODE", *keys("STUDY", study), *there[1])
            wait_until(lambda: status(database).instances.stored == len(made))
        finally:
            node.stop()
    database.close()
