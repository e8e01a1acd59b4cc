"""storescu -> dicom-node serve -> Orthanc, over real sockets, with kill -9 on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from peers import ENVIRONMENT, dcmtk, free_port, orthanc, program
from pydicom import dcmread
from serve import Serve

from analysis.truth.phantom import ThoraxShape, thorax_phantom
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.results.measures_file import NAME as MEASURES
from dicom_node.results.measures_file import measures_bytes
from dicom_node.results.record import NAME as RECORD
from dicom_node.results.record import read_record

SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"

#: Stands in for a user's program: five lobes by where the lungs' voxels lie.
DRAW_LOBES = """
import sys
import numpy as np
import SimpleITK as sitk
ct = sitk.ReadImage(sys.argv[1])
hu = sitk.GetArrayFromImage(ct)
bodies = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.Cast(ct < -400, sitk.sitkUInt8)))
k, j, i = np.indices(hu.shape)
edge = bodies[:, [0, -1]].ravel()
lung = (bodies > 0) & ~np.isin(bodies, edge)
right, middle = i < hu.shape[2] / 2, [np.median(axis[lung]) for axis in (k, j)]
high, front = k > middle[0], j < middle[1]
labels = np.where(right, np.where(high, 1, np.where(front, 2, 3)), np.where(high, 4, 5)) * lung
out = sitk.GetImageFromArray(labels.astype(np.uint8))
out.CopyInformation(ct)
sitk.WriteImage(out, sys.argv[2])
"""


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both series of a small thorax phantom."""
    folder = tmp_path_factory.mktemp("scans")
    truth = thorax_phantom(shape=ThoraxShape(in_plane_mm=4.0, slice_mm=5))
    for number, (name, volume) in enumerate((("Insp", truth.inspiratory), ("Exp", truth.expiratory)), 1):
        write_ct_series(volume, folder / name, Scan(f"Thorax {name}", "journey", number))
    return folder


def store(port: int, folder: Path, check: bool = True) -> None:
    dcmtk("storescu", "+sd", "+r", "-aec", "VQNODE", "127.0.0.1", str(port), str(folder), check=check)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serve]:
    (tmp_path / "draw.py").write_text(DRAW_LOBES)
    command = [sys.executable, str(tmp_path / "draw.py"), "{ct}", "{lobes}"]
    jobs = f"[jobs]\nmax_crashes = 99\nlobes_command = {json.dumps(command)}"
    analysis = f"grid_mm = 4\naccept_failed_checks = true\n{jobs}"
    node = Serve(tmp_path, free_port(), analysis=analysis)
    node.start()
    yield node
    node.kill()


def test_results_arrive_once_though_the_node_is_killed_at_every_stage(
    node: Serve, scans: Path, tmp_path: Path
) -> None:
    _kill_while_receiving(node, scans)
    store(node.port, scans)  # the sender sends again what it was not thanked for
    node.until(lambda: "RUNNING registration" in node.jobs())
    node.kill()

    node.start()
    node.until(lambda: node.jobs() == ["DONE"])
    results = [*tmp_path.rglob("results/*/*-seg.dcm"), *tmp_path.rglob("results/*/*-sr.dcm")]
    made = {str(dcmread(path).SOPInstanceUID): path.read_bytes() for path in results}
    assert len(made) == len(results) == 2  # what the destination asks for, of all that was made
    (record,) = tmp_path.rglob(f"results/*/{RECORD}")
    assert record.with_name(MEASURES).read_bytes() == measures_bytes(read_record(record))
    node.kill()  # results wait for a PACS that cannot be reached

    node.start()
    with orthanc(tmp_path / "orthanc", node.destination) as pacs:
        node.until(lambda: pacs.instances())
        node.kill()  # in the middle of the delivery, or just after it
        node.start()
        node.until(lambda: {d["state"] for d in node.status()["deliveries"]} == {"SENT"})
        stored = pacs.instances()
        assert set(stored) == set(made)
        classes = set()
        for uid, number in stored.items():
            got = dcmread(BytesIO(pacs.download(f"/instances/{number}/file")))
            assert got == dcmread(BytesIO(made[uid]))
            classes.add(str(got.SOPClassUID))
            if got.SOPClassUID == SR:
                assert b"Right middle lobe" in made[uid]
        assert {SEG, SR} <= classes
    found = node.status()
    node.stop()
    count = len(list(scans.rglob("*.dcm")))
    assert found["instances"] == {"stored": count, "to_be_read": 0, "unreadable": 0, "quarantined": 0}
    assert len(found["jobs"]) == 1
    assert "Phantom" not in node.log.read_text()


def _kill_while_receiving(node: Serve, scans: Path) -> None:
    """Every image that storescu was thanked for is in the archive after the kill."""
    arguments = ["-v", "+sd", "+r", "-aec", "VQNODE", "127.0.0.1", str(node.port), str(scans)]
    sender = subprocess.Popen(
        [program("storescu"), *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert sender.stdout is not None
    lines = []
    for line in sender.stdout:
        lines.append(line)
        if sum("Store Response (Success)" in seen for seen in lines) == 40:
            node.kill()
    sender.wait(60)
    thanked = sum("Store Response (Success)" in line for line in lines)
    assert 40 <= thanked < len(list(scans.rglob("*.dcm")))
    node.start()
    assert node.status()["instances"]["stored"] >= thanked
