"""Odd values, which pydicom warns of one by one, leave the node's log and what `run` says as short as plain ones."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from made import thorax
from peers import dcmtk, free_port
from serve import COMMAND, Serve
from spoilt import spoil

from dicom_node.dicom.ct_writer import Scan, write_ct_series

#: As scanners of several makers and the archives behind them write it: attribute and VR -> bytes.
ODD: dict[tuple[int | str, str], bytes | None] = {
    ("SpecificCharacterSet", "CS"): b"ISO_IR 999",
    ("BodyPartExamined", "CS"): b"chest (a+b)",
    ("StudyDate", "DA"): b"2026.01.01",
    ("SeriesTime", "TM"): b"9:00:00",
    ("PatientAge", "AS"): b"45",
    ("PatientWeight", "DS"): b"80,5 kg",
    ("SliceLocation", "DS"): b"-210.50000000000000001234",
    ("InstanceNumber", "IS"): b"1.0",
    ("ExposureTime", "IS"): b"500.5",
    ("ProtocolName", "LO"): b"Thorax " * 12,
    ("StationName", "SH"): b"A STATION NAME THAT IS TOO LONG",
    ("IrradiationEventUID", "UI"): b"1.3.012.x",
    ("FrameOfReferenceUID", "UI"): b"1.3.012." * 9 + b"1",
    ("OperatorsName", "PN"): b"M\xfcller^J\xf6rg\\Roe^" + b"x" * 80,
    ("KVP", "UN"): b"120",
    (0x00091010, "DS"): b"not a number",
    (0x00191023, "UI"): b"no UID",
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    for number, words in enumerate(("Thorax Insp", "Thorax Exp"), 1):
        when = datetime(2026, 1, 1, 9, number)
        volume = thorax(-900 + 100 * number, (30, 24, 24), (5.0, 8.0, 8.0))
        spoil(write_ct_series(volume, folder / str(number), Scan(words, "s", number, acquired=when)), ODD)
    return folder


@pytest.mark.slow
def test_the_log_of_a_node_stays_short(odd: Path, tmp_path: Path) -> None:
    node = Serve(tmp_path, free_port())
    node.start()
    try:
        dcmtk("storescu", "-aec", "VQNODE", "+sd", "+r", "127.0.0.1", str(node.port), str(odd))
        node.until(lambda: [j for j in node.peek()["jobs"] if j["state"] in ("DONE", "REFUSED", "FAILED")])
        (job,) = node.status()["jobs"]
        assert job["state"] == "REFUSED", job["reason"]  # two boxes of lung are no patient
    finally:
        node.stop()
    lines = node.log.read_text().splitlines()
    assert not [line for line in lines if "pydicom" in line or "valu" in line]
    assert len(lines) < 20, lines


@pytest.mark.slow
def test_run_says_one_sentence(odd: Path, tmp_path: Path) -> None:
    command = [*COMMAND, "run", str(odd), str(tmp_path / "out"), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.strip() and "━" not in line]
    assert len(said) == 1, said
    assert said[0].startswith("dicom-node: ")


def test_a_library_that_is_imported_later_does_not_speak_up() -> None:
    program = (
        "from dicom_node.commands.logs import configure_logging\nconfigure_logging()\n"
        "import logging, pydicom\n"
        "logging.getLogger('pydicom').warning('Invalid value for VR UI')\n"
        "logging.getLogger('pynetdicom.acse').error('Association Rejected')\n"
        "logging.getLogger('dicom_node.node').info('kept')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert [line.split(": ")[-1] for line in done.stderr.splitlines()] == ["kept"]
