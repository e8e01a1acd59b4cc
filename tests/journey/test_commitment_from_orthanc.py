"""Orthanc asks the node for storage commitment, as a scanner does: what is kept, what is not, and through a kill -9."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from peers import Orthanc, dcmtk, free_port, orthanc
from serve import Serve

from analysis.volume import Grid, Volume
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.store.database import Database
from dicom_node.store.tables import commitment

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def scanner_port() -> int:
    return free_port()


@pytest.fixture
def node(tmp_path: Path, scanner_port: int) -> Iterator[Serve]:
    node = Serve(tmp_path, 1)
    with node.config.open("a") as file:
        file.write(f"[[receive.peers]]\naddress = '127.0.0.1'\nport = {scanner_port}\n")
    node.start()
    yield node
    node.kill()


@pytest.fixture
def scanner(tmp_path: Path, node: Serve, scanner_port: int) -> Iterator[Orthanc]:
    here: dict[str, Any] = {"DicomModalities": {"node": ["VQNODE", "127.0.0.1", node.port]}}
    with orthanc(tmp_path / "orthanc", port=scanner_port, **here) as peer:
        yield peer


@pytest.fixture
def stored(tmp_path: Path, node: Serve) -> list[str]:
    """The SOP Instance UIDs of images that the node has acknowledged."""
    import numpy as np

    array = np.arange(3 * 64, dtype=np.int16).reshape(3, 8, 8)
    paths = write_ct_series(
        Volume(array, Grid.axial(array.shape, (5.0, 2.0, 2.0))), tmp_path / "scan", Scan("Insp", "kept")
    )
    dcmtk("storescu", "+sd", "127.0.0.1", str(node.port), str(tmp_path / "scan"))
    return [path.stem for path in paths]


def ask(scanner: Orthanc, uids: list[str]) -> str:
    found = scanner.post("/modalities/node/storage-commitment", {"DicomInstances": [[CT, u] for u in uids]})
    return str(found["Path"])


def reported(scanner: Orthanc, path: str) -> dict[str, Any]:
    """Orthanc's own account of a transaction, once the report came."""
    end = time.monotonic() + 240
    while (found := scanner.get(path))["Status"] == "Pending":
        assert time.monotonic() < end
        time.sleep(0.1)
    return dict(found)


def test_orthanc_hears_that_all_is_kept_and_which_is_not(
    node: Serve, scanner: Orthanc, stored: list[str]
) -> None:
    found = reported(scanner, ask(scanner, stored))
    assert found["Status"] == "Success"
    assert {i["SOPInstanceUID"] for i in found["Success"]} == set(stored)
    found = reported(scanner, ask(scanner, [*stored[:2], "1.2.3.4"]))
    assert found["Status"] == "Failure"
    assert {i["SOPInstanceUID"] for i in found["Success"]} == set(stored[:2])
    assert [(i["SOPInstanceUID"], i["FailureReason"]) for i in found["Failures"]] == [("1.2.3.4", 0x0112)]


def test_a_node_killed_between_its_answer_and_its_report_reports_when_it_is_back(
    node: Serve, scanner: Orthanc, stored: list[str]
) -> None:
    path = ask(scanner, stored)
    node.kill()
    database = Database(f"sqlite:///{node.config.parent / 'dicom-node-data' / 'node.db'}")
    with database.reading() as connection:
        assert connection.execute(sa.select(commitment.c.state, commitment.c.attempts)).all() == [
            ("QUEUED", 0)
        ]
    database.close()
    assert scanner.get(path)["Status"] == "Pending"
    node.start()
    assert reported(scanner, path)["Status"] == "Success"
