"""A study whose other phase never came by itself: fetched from Orthanc, overdue, or helped by an operator."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import dcmtk, orthanc
from serve import COMMAND, Serve

from analysis.truth.phantom import ThoraxShape, thorax_phantom
from dicom_node.dicom.ct_writer import Scan, write_ct_series


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    truth = thorax_phantom(shape=ThoraxShape(in_plane_mm=4.0, slice_mm=5))
    for number, (name, volume) in enumerate((("Insp", truth.inspiratory), ("Exp", truth.expiratory)), 1):
        write_ct_series(volume, folder / name, Scan(f"Thorax {name}", "missing", number))
        write_ct_series(volume, folder / f"unnamed-{name}", Scan(f"Series {number}", "unnamed", number))
    return folder


def uid(description: str, study: str, number: int) -> str:
    scan = Scan(description, study, number)
    return str(scan.uid(f"series {scan.series}"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serve]:
    node = Serve(tmp_path, 1, analysis="grid_mm = 4\naccept_failed_checks = true", quiet=1.0)
    yield node
    node.kill()


def store(title: str, port: int, folder: Path) -> None:
    dcmtk("storescu", "+sd", "-aec", title, "127.0.0.1", str(port), str(folder))


def run(node: Serve, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments, "--config", str(node.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("method", ["C-MOVE", pytest.param("C-GET", marks=pytest.mark.slow)])
def test_the_missing_phase_is_fetched_from_orthanc(
    method: str, node: Serve, scans: Path, tmp_path: Path
) -> None:
    here: dict[str, Any] = {"DicomModalities": {"node": ["VQNODE", "127.0.0.1", node.port]}}
    with orthanc(tmp_path / "orthanc", **here) as pacs:
        store("ORTHANC", pacs.port, scans / "Exp")
        with node.config.open("a") as file:
            file.write(
                f"[pacs]\nname = 'pacs'\nae_title = 'ORTHANC'\nhost = '127.0.0.1'\nport = {pacs.port}\n"
                f"method = '{method}'\nsearch_seconds = 1\n"
            )
        node.start()
        store("VQNODE", node.port, scans / "Insp")
        node.until(lambda: [s["state"] for s in node.peek()["studies"]] == ["PAIRED"])
    assert len(node.peek()["jobs"]) == 1
    assert node.peek()["instances"]["stored"] == len(list(scans.glob("Insp/*"))) + len(
        list(scans.glob("Exp/*"))
    )


def test_a_study_waits_until_its_deadline_and_then_is_overdue(node: Serve, scans: Path) -> None:
    node.config.write_text("wait_hours = 0.001\n" + node.config.read_text())
    node.start()
    store("VQNODE", node.port, scans / "Insp")
    node.until(lambda: [s["state"] for s in node.peek()["studies"]] == ["WAITING"])
    (row,) = node.peek()["studies"]
    assert row["due_at"] == pytest.approx(row["since"] + 3.6)
    node.until(lambda: [s["state"] for s in node.peek()["studies"]] == ["OVERDUE"])
    (row,) = node.peek()["studies"]
    assert row["reason"].startswith(
        "not complete after 0.001 h: waiting for the other phase: only inspiration"
    )
    store("VQNODE", node.port, scans / "Exp")
    node.until(lambda: [s["state"] for s in node.peek()["studies"]] == ["PAIRED"])


def test_an_operator_assigns_phases_forces_cancels_and_retries(node: Serve, scans: Path) -> None:
    node.start()
    for name in ("unnamed-Insp", "Exp"):
        store("VQNODE", node.port, scans / name)
    node.until(lambda: [s["state"] for s in node.peek()["studies"]] == ["WAITING"] * 2)
    first, second = uid("Series 1", "unnamed", 1), uid("Series 2", "unnamed", 2)
    assert run(node, "assign", first, "inspiration").returncode == 0
    node.until(
        lambda: any(f"only inspiration (series {first})" in s["reason"] for s in node.peek()["studies"]), 30
    )
    study = next(s["study_uid"] for s in node.peek()["studies"] if first in s["reason"])

    node.kill()  # so that a slow quiet time can be told
    node.config.write_text(node.config.read_text().replace("quiet_seconds = 1.0", "quiet_seconds = 3600"))
    node.start()
    store("VQNODE", node.port, scans / "unnamed-Exp")
    node.until(lambda: node.peek()["instances"]["to_be_read"] == 0)
    assert node.peek()["jobs"] == []
    idle = _children(node)
    done = run(node, "force", study)
    assert (done.returncode, done.stdout) == (0, f"study {study} is due now\n")
    node.until(lambda: [j["state"] for j in node.peek()["jobs"]] == ["RUNNING"])
    node.until(lambda: _children(node) == idle + 1)

    assert run(node, "cancel", "1").returncode == 0
    log = node.log.read_text
    node.until(lambda: _children(node) == idle)
    assert [j["state"] for j in node.peek()["jobs"]] == ["CANCELLED"], log()[-2000:]
    assert run(node, "retry", "1").returncode == 0
    node.until(lambda: node.peek()["jobs"][0]["state"] in ("RUNNING", "DONE"))
    assert run(node, "assign", second, "none").returncode == 0

    for wrong in (["force", "1.2.3"], ["assign", "1.2.3", "none"], ["cancel", "99"]):
        refused = run(node, *wrong)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "there is no" in refused.stderr
    assert run(node, "assign", second, "sideways").returncode == 2


def _children(node: Serve) -> int:
    """Processes the node has started: those that receive, the reader of headers, and workers."""
    assert node.process is not None
    command = ["ps", "-ww", "-o", "args=", "--ppid", str(node.process.pid)]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return sum("spawn_main" in line for line in lines)
