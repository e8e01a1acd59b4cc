"""What can be wrong with a study, seen as an operator sees it: the node's status, its log, a command's stderr."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import dcmtk, free_port, orthanc
from pydicom import dcmread, dcmwrite
from pydicom.errors import BytesLengthException
from pydicom.uid import ImplicitVRLittleEndian
from serve import COMMAND, Serve

from analysis.truth.phantom import ThoraxShape, thorax_phantom
from analysis.volume import Grid, Volume
from dicom_node.dicom.ct_writer import Scan, write_ct_series

NAME, PATIENT_ID = "Sentinel^Ada", "SENTINEL-4711"
GAP = 5.0


@dataclass(frozen=True)
class Phantoms:
    """Both phases of a small thorax."""

    insp: Volume
    exp: Volume


def write(folder: Path, volume: Volume, description: str, number: int, **attributes: object) -> list[Path]:
    """One series of the study that the folder's name stands for, in slice order."""
    scan = Scan(
        description,
        folder.name,
        number,
        patient_id=PATIENT_ID,
        patient_name=NAME,
        acquired=datetime(2026, 1, 1, 9, number),
        attributes=attributes,
    )
    return write_ct_series(volume, folder / str(number), scan)


def write_pair(
    folder: Path, insp: Volume, exp: Volume, words: tuple[str, str] = ("Insp", "Exp"), **attributes: object
) -> list[Path]:
    """Both series; the files of the second one."""
    write(folder, insp, f"Thorax {words[0]}", 1, **attributes)
    return write(folder, exp, f"Thorax {words[1]}", 2, **attributes)


def only_one_phase(folder: Path, thorax: Phantoms) -> None:
    write(folder, thorax.insp, "Thorax Insp", 1)


def two_inspirations(folder: Path, thorax: Phantoms) -> None:
    write_pair(folder, thorax.insp, thorax.insp, ("Insp", "Insp"))


def one_breath_twice(folder: Path, thorax: Phantoms) -> None:
    write_pair(folder, thorax.insp, thorax.insp, ("A", "B"))


def names_swapped(folder: Path, thorax: Phantoms) -> None:
    write_pair(folder, thorax.insp, thorax.exp, ("Exp", "Insp"))


def slice_missing(folder: Path, thorax: Phantoms) -> None:
    write_pair(folder, thorax.insp, thorax.exp)[20].unlink()


def slices_aslant(folder: Path, thorax: Phantoms) -> None:
    for k, path in enumerate(write_pair(folder, thorax.insp, thorax.exp)):
        ds = dcmread(path)
        x, y, z = map(float, ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, round(y + k * GAP * np.tan(np.radians(10)), 3), z]
        dcmwrite(path, ds)


def tilt_in_the_header_only(folder: Path, thorax: Phantoms) -> None:
    write_pair(folder, thorax.insp, thorax.exp, GantryDetectorTilt="12.5")


def contrast_in_the_header(folder: Path, thorax: Phantoms) -> None:
    write_pair(folder, thorax.insp, thorax.exp, ContrastBolusAgent="Iomeron 400")


def contrast_in_the_heart(folder: Path, thorax: Phantoms) -> None:
    def bright(volume: Volume) -> Volume:
        hu = volume.array
        return replace(volume, array=np.where(hu > -100, hu + 140, hu).astype(np.int16))

    write_pair(folder, bright(thorax.insp), bright(thorax.exp))


def head(folder: Path, thorax: Phantoms) -> None:
    write_pair(folder, thorax.insp, thorax.exp, BodyPartExamined="HEAD")


def abdomen(folder: Path, thorax: Phantoms) -> None:
    shape = (60, 80, 90)
    k, j, i = np.ogrid[:60, :80, :90]
    hu = np.where(((j - 40) / 28) ** 2 + ((i - 45) / 38) ** 2 < 1, 40, -1000) + 0 * k
    for n in range(4):  # gas in the bowel
        hu[(k - 15 * n - 8) ** 2 + (j - 30) ** 2 + (i - 30 - 8 * n) ** 2 < 25] = -990
    volume = Volume(hu.astype(np.int16), Grid.axial(shape, (GAP, 4.0, 4.0)))
    write_pair(folder, volume, volume)


def malformed_private_tag(folder: Path, thorax: Phantoms) -> None:
    """(01F1,1026), an FD by pydicom's dictionary, holds four characters, as in Philips' series."""
    for path in (*write_pair(folder, thorax.insp, thorax.exp), *(folder / "1").iterdir()):
        ds = dcmread(path)
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        ds.add_new(0x01F10010, "LO", "ELSCINT1")
        ds.add_new(0x01F11026, "SH", "0.15")
        dcmwrite(path, ds, implicit_vr=True, little_endian=True)
    with pytest.raises(BytesLengthException):
        list(dcmread(path))


STUDIES = {
    make.__name__: make
    for make in (
        only_one_phase, two_inspirations, one_breath_twice, names_swapped, slice_missing, slices_aslant,
        tilt_in_the_header_only, contrast_in_the_header, contrast_in_the_heart, head, abdomen, malformed_private_tag,
    )
}  # fmt: skip


def uid(study: str, number: int = 0) -> str:
    """Of the study, or of one of its series, as `write` made it."""
    if not number:
        return str(Scan("", study).uid(f"study {study}"))
    words = {
        "two_inspirations": ("Insp", "Insp"),
        "one_breath_twice": ("A", "B"),
        "names_swapped": ("Exp", "Insp"),
    }
    description = f"Thorax {words.get(study, ('Insp', 'Exp'))[number - 1]}"
    scan = Scan(description, study, number)
    return str(scan.uid(f"series {scan.series}"))


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each study."""
    truth = thorax_phantom(shape=ThoraxShape(in_plane_mm=4.0, slice_mm=5))
    folder = tmp_path_factory.mktemp("studies")
    for name, make in STUDIES.items():
        make(folder / name, Phantoms(truth.inspiratory, truth.expiratory))
    return folder


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, studies: Path) -> Iterator[Serve]:
    """A node that got every study, with a destination that is away."""
    node = Serve(tmp_path_factory.mktemp("node"), free_port(), analysis="grid_mm = 4", quiet=1.0)
    node.start()
    for name in STUDIES:
        syntax = ["-xi"] if name == "malformed_private_tag" else []
        peer = ["-aec", "VQNODE", "127.0.0.1", str(node.port)]
        dcmtk("storescu", "+sd", "+r", *syntax, *peer, str(studies / name))
    node.until(lambda: settled(node.peek()))
    yield node
    node.kill()


@pytest.fixture(scope="module")
def status(node: Serve) -> dict[str, Any]:
    return node.status()


def settled(found: dict[str, Any]) -> bool:
    looked_at = len(found["studies"]) == len(STUDIES) and all(
        s["state"] != "RECEIVING" for s in found["studies"]
    )
    return looked_at and all(j["state"] not in ("READY", "RUNNING") for j in found["jobs"])


def seen(status: dict[str, Any], study: str) -> tuple[str, str]:
    """State and sentence of a study: its job's where there is one."""
    (row,) = [s for s in status["studies"] if s["study_uid"] == uid(study)]
    jobs = [j for j in status["jobs"] if j["study_uid"] == uid(study)]
    assert len(jobs) <= 1
    return (jobs[0]["state"], jobs[0]["reason"]) if jobs else (row["state"], row["reason"])


def sentence(study: str) -> tuple[str, str]:
    """State and the start of the sentence that an operator should see."""
    one, two = uid(study, 1), uid(study, 2)
    first, none = min(one, two), "waiting: no usable chest CT stack so far; series "
    other = f"waiting for the other phase: only inspiration (series {one}) so far; series {two} refused: "
    return {
        "only_one_phase": ("WAITING", f"waiting for the other phase: only inspiration (series {one}) so far"),
        "two_inspirations": ("WAITING", "waiting for the other phase: 2 inspiratory stacks and no expiratory one"),
        "slice_missing": ("WAITING", other + "slice gap 10.0 mm after z="),
        "slices_aslant": ("WAITING", other + "gantry tilt of 10.0°: the slices are stacked aslant"),
        "head": ("WAITING", none + f"{first} refused: not a chest: Body Part Examined (0018,0015) is HEAD"),
        "tilt_in_the_header_only": (
            "WAITING", none + f"{first} refused: gantry tilt of 12.5°, but the slices are described as leaning 0.0°",
        ),
        "one_breath_twice": (
            "REFUSED", "expiratory lungs have 100% of the inspiratory volume: too shallow, one phase twice, or swapped",
        ),
        "names_swapped": (
            "REFUSED", f"series {one} says expiration (SeriesDescription 'Thorax Exp'), but its lungs are larger",
        ),
        "contrast_in_the_header": ("REFUSED", "the header names a contrast agent on inspiration"),
        "contrast_in_the_heart": ("REFUSED", "tissue between the lungs measures 1"),
        "abdomen": ("REFUSED", f"series {one}: no lungs found: "),
        "malformed_private_tag": ("DONE", ""),
    }[study]  # fmt: skip


@pytest.mark.parametrize("study", STUDIES)
def test_the_status_says_what_is_wrong_with_a_study(status: dict[str, Any], study: str) -> None:
    state, why = seen(status, study)
    expected, start = sentence(study)
    assert (state, why[: len(start)]) == (expected, start)
    if study == "contrast_in_the_heart":
        assert "contrast medium was given, V/Q from density is not valid" in why


def test_nothing_was_lost_and_nothing_is_unreadable(status: dict[str, Any], studies: Path) -> None:
    count = len(list(studies.rglob("*.dcm")))
    assert status["instances"] == {"stored": count, "to_be_read": 0, "unreadable": 0, "quarantined": 0}


def test_neither_status_nor_log_shows_a_patient_or_a_trace(node: Serve, status: dict[str, Any]) -> None:
    for text in (json.dumps(status), node.log.read_text()):
        for word in ("Sentinel", "SENTINEL", "4711", "Traceback", "internal error"):
            assert word not in text


def test_results_for_a_destination_that_is_down_wait_and_arrive_once_it_is_up(
    node: Serve, status: dict[str, Any], tmp_path: Path
) -> None:
    (waiting,) = status["deliveries"]
    assert (waiting["state"], waiting["objects"]) == ("QUEUED", 2)
    assert waiting["reason"] == f"pacs (ORTHANC at 127.0.0.1:{node.destination}) cannot be reached"
    with orthanc(tmp_path / "orthanc", node.destination) as pacs:
        node.until(lambda: {d["state"] for d in node.peek()["deliveries"]} == {"SENT"})
        assert len(pacs.instances()) == 2


def command(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (("only_one_phase",), "only inspiration"),
        (("slice_missing",), "slice gap 10.0 mm after z="),
        (("only_one_phase/1", "nowhere"), "nowhere does not exist"),
        (("only_one_phase/1", "two_inspirations/1"), "two_inspirations/1 is given as expiration, but series "),
        (("contrast_in_the_header",), "the header names a contrast agent on inspiration"),
    ],
)  # fmt: skip
def test_run_ends_with_one_sentence_and_exit_code_1(
    studies: Path, tmp_path: Path, sources: tuple[str, ...], said: str
) -> None:
    done = command("run", *(studies / source for source in sources), tmp_path / "out")
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("dicom-node: ")]
    assert done.returncode == 1
    assert said in line
    assert "Traceback" not in done.stderr
    assert "entinel" not in (done.stdout + done.stderr).lower()
    assert not (tmp_path / "out").exists()


def test_a_person_reads_the_same_sentences_in_the_tables_of_status(node: Serve) -> None:
    done = command("status", "--config", node.config)
    assert done.returncode == 0
    shown = " ".join(done.stdout.split())
    assert "contrast" in shown
    assert "WAITING" in shown
    assert "entinel" not in shown.lower()
