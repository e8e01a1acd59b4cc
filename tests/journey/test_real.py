"""Real CT, compressed as the scanner wrote it: storescu -> dicom-node serve -> Orthanc, and `dicom-node run`.

The twins are the chests of ``real-ct`` as inspiration and an expiration made of them with the motion of another
patient and six planted defects; their truth is known. The pair of ``real-pair`` is one right lung, both phases real.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from peers import Orthanc, dcmtk, orthanc, program
from pydicom import Dataset, dcmread
from real_pair_series import read_mha, write_pair
from serve import COMMAND, Serve

from analysis.anatomy.regions import ZONES_OF
from analysis.measures.digits import carried, sd_of
from analysis.vq.classes import VQClass
from dicom_node.results.codes import measure_code

SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"
FRACTIONS = ("normal", "dead_space", "shunt", "matched_defect", "total_abnormal")
IMPLICIT, EXPLICIT, JPEG_LOSSLESS = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70"
#: What storescu proposes, so that files go as they are.
PROPOSE = {IMPLICIT: "-xi", EXPLICIT: "-xe", JPEG_LOSSLESS: "-xs"}


@dataclass(frozen=True)
class Case:
    """A twin: its sources, and the transfer syntax of the real series."""

    archive: str
    motion: str
    syntax: str


CASES = {
    "siemens": Case("normal001-siemens-jpegll.zip", "copd03.npz", JPEG_LOSSLESS),
    "philips": Case("popi-00-philips.zip", "copd06.npz", IMPLICIT),
}


@dataclass(frozen=True)
class Results:
    """What the PACS holds of one study."""

    seg: Path
    sr: Path


@pytest.fixture(scope="module")
def twins(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each case: real, made, truth.npz."""
    script, folders = Path(__file__).parents[1] / "support" / "twin_series.py", {}
    for name, case in CASES.items():
        folders[name] = tmp_path_factory.mktemp(name)
        sources = shared / "real-ct" / case.archive, shared / "real-motion" / case.motion
        command = [sys.executable, script, *sources, folders[name], "--phase", "inspiration"]
        # the fit's threads would fight each other
        subprocess.run(
            [*map(str, command)], env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, check=True, timeout=600
        )
    return folders


@pytest.fixture(scope="module")
def delivered(
    twins: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Results]]:
    """Both twins' results in Orthanc, sent as they are to one node."""
    folder = tmp_path_factory.mktemp("journey")
    with orthanc(folder / "orthanc") as pacs:
        node = Serve(folder, pacs.port, quiet=3.0)
        node.start()
        try:
            for name, twin in twins.items():
                send_as_they_are(node, twin / "real", CASES[name].syntax)
                send_as_they_are(node, twin / "made", EXPLICIT)
            node.until(lambda: over(node.peek(), len(CASES)), 900)
            yield {name: results(pacs, twins[name], folder) for name in CASES}
        finally:
            node.kill()


def send_as_they_are(node: Serve, folder: Path, syntax: str) -> None:
    """One storescu for a folder in one transfer syntax, which must be that of its files and what is kept."""
    names = {str(dcmread(p, stop_before_pixels=True).file_meta.TransferSyntaxUID) for p in folder.iterdir()}
    assert names == {syntax}
    before = node.peek()["instances"]["stored"]
    peer = ["-aec", "VQNODE", "127.0.0.1", str(node.port)]
    dcmtk("storescu", "+sd", "+r", PROPOSE[syntax], *peer, str(folder))
    assert node.peek()["instances"]["stored"] - before == len(list(folder.iterdir()))


def over(found: dict[str, Any], jobs: int) -> bool:
    states = [j["state"] for j in found["jobs"]]
    assert set(states) <= {"READY", "RUNNING", "DONE"}, found["jobs"]
    sent = [d["objects"] for d in found["deliveries"] if d["state"] == "SENT"]
    return states == ["DONE"] * jobs and sum(sent) == 2 * jobs


def results(pacs: Orthanc, twin: Path, folder: Path) -> Results:
    """The study's SEG and SR, downloaded from the PACS."""
    study = str(dcmread(next((twin / "made").iterdir()), stop_before_pixels=True).StudyInstanceUID)
    paths = {}
    for number in pacs.instances().values():
        data = pacs.download(f"/instances/{number}/file")
        ds = dcmread(BytesIO(data))
        if ds.StudyInstanceUID == study:
            paths[str(ds.SOPClassUID)] = folder / f"{ds.SOPInstanceUID}.dcm"
            paths[str(ds.SOPClassUID)].write_bytes(data)
    assert set(paths) == {SEG, SR}
    return Results(paths[SEG], paths[SR])


def errors(path: Path) -> list[str]:
    """What dciodvfy calls an error."""
    beside = Path(sys.executable).parent / "dciodvfy"
    command = [str(beside) if beside.exists() else program("dciodvfy"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def numbers(sr: Path) -> dict[str, float]:
    """Value of each measure of both lungs, by its name in the report."""
    found: dict[str, float] = {}

    def walk(item: Dataset) -> None:
        for child in item.get("ContentSequence", []):
            if child.ValueType == "NUM" and child.MeasuredValueSequence:
                name = str(child.ConceptNameCodeSequence[0].CodeMeaning)
                found.setdefault(name, float(child.MeasuredValueSequence[0].NumericValue))
            walk(child)

    walk(dcmread(sr))
    return found


def segmented(seg: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Each segment as a mask (k, j, i), its frames placed by their position along k."""
    ds = dcmread(seg)
    labels = {int(s.SegmentNumber): str(s.SegmentLabel) for s in ds.SegmentSequence}
    masks = {label: np.zeros(shape, dtype=np.bool_) for label in labels.values()}
    origin, step = affine[:3, 3], affine[:3, 0]
    for frame, group in zip(ds.pixel_array, ds.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        k = float((position - origin) @ step / (step @ step))
        assert abs(k - round(k)) < 0.05
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        masks[labels[number]][round(k)] = frame > 0
    return masks


def percentages(classes: NDArray[np.uint8]) -> dict[str, float]:
    """Percent of the lung in each class of the truth."""
    counts = np.bincount(classes[classes > 0], minlength=5)[1:] / np.count_nonzero(classes) * 100
    found = {c.name.lower(): float(n) for c, n in zip(list(VQClass)[1:], counts, strict=True)}
    return {**found, "total_abnormal": 100 - found["normal"]}


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_report_of_a_real_chest_says_what_was_planted(
    name: str, twins: dict[str, Path], delivered: dict[str, Results]
) -> None:
    truth = np.load(twins[name] / "truth.npz")
    expected, found = percentages(truth["classes"]), numbers(delivered[name].sr)
    values = {measure: found[measure_code(measure).meaning] for measure in FRACTIONS}
    print(name, {m: f"{values[m]:.1f} (truth {expected[m]:.1f})" for m in FRACTIONS})
    assert 20 < expected["total_abnormal"] < 35
    assert {m: values[m] for m in FRACTIONS} == pytest.approx(expected, abs=4)
    assert values["total_abnormal"] == pytest.approx(expected["total_abnormal"], abs=3)
    voxel_ml = abs(np.linalg.det(truth["exp_affine"][:3, :3])) / 1000
    lungs_ml = np.count_nonzero(truth["lungs"]) * voxel_ml
    print(name, f"lungs {found[measure_code('volume_exp').meaning]:.0f} ml (truth {lungs_ml:.0f} ml)")
    assert found[measure_code("volume_exp").meaning] == pytest.approx(lungs_ml, rel=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_segments_of_a_real_chest_lie_where_it_was_planted(
    name: str, twins: dict[str, Path], delivered: dict[str, Results]
) -> None:
    truth = np.load(twins[name] / "truth.npz")
    classes, lungs = truth["classes"], truth["lungs"] > 0
    masks = segmented(delivered[name].seg, classes.shape, truth["exp_affine"])
    found = np.zeros_like(classes)
    for c in VQClass:
        label = next((m for m in masks if m.lower().startswith(c.name.lower().replace("_", " "))), None)
        if label:
            found[masks[label]] = c
    assert set(np.unique(found)) == set(range(5))
    where = found > 0
    overlaps = {c.name: dice((found == c) & where, (classes == c) & where) for c in list(VQClass)[1:]}
    abnormal = dice(found > VQClass.NORMAL, (classes > VQClass.NORMAL) & where)
    whole = dice(np.logical_or.reduce([m for label, m in masks.items() if "lung" in label.lower()]), lungs)
    print(name, {c: f"{d:.2f}" for c, d in overlaps.items()}, f"abnormal {abnormal:.2f}, lungs {whole:.3f}")
    assert whole > 0.96
    assert abnormal > 0.75
    assert min(overlaps.values()) > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_dciodvfy_and_dsrdump_read_the_results_of_a_real_chest(
    name: str, delivered: dict[str, Results]
) -> None:
    assert errors(delivered[name].seg) == errors(delivered[name].sr) == []
    said = dcmtk("dsrdump", str(delivered[name].sr)).stdout
    for measure in FRACTIONS:
        assert said.count(f'"{measure_code(measure).meaning}")=') == len(ZONES_OF)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_run_gives_what_the_node_gives(
    name: str, twins: dict[str, Path], delivered: dict[str, Results], tmp_path: Path
) -> None:
    command = [*COMMAND, "run", twins[name] / "real", twins[name] / "made", tmp_path / "out"]
    subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=600)
    table = json.loads((tmp_path / "out" / "measures.json").read_text())["measures"]["lungs"]
    found = numbers(delivered[name].sr)
    for measure in (*FRACTIONS, "volume_exp"):
        one, sd = table[measure], (sd_of(table, measure) or {}).get("value")
        assert found[measure_code(measure).meaning] == pytest.approx(carried(one["value"], one["unit"], sd))


def test_a_real_lung_in_two_breath_holds(shared: Path, tmp_path: Path) -> None:
    """The right lung of ``real-pair``: no truth of classes, but of its volumes; both phases found in one pile."""
    write_pair(shared / "real-pair", tmp_path / "pair")
    with orthanc(tmp_path / "orthanc") as pacs:
        node = Serve(tmp_path, pacs.port)
        node.start()
        try:
            dcmtk(
                "storescu", "+sd", "+r", "-aec", "VQNODE", "127.0.0.1", str(node.port), str(tmp_path / "pair")
            )
            node.until(lambda: over(node.peek(), 1))
            (tmp_path / "made").symlink_to(tmp_path / "pair" / "baseline")
            arrived = results(pacs, tmp_path, tmp_path)
        finally:
            node.kill()
    assert errors(arrived.seg) == errors(arrived.sr) == []
    found = numbers(arrived.sr)
    for phase, name in (("exp", "baseline"), ("insp", "followup")):
        mask = read_mha(shared / "real-pair" / f"3DCT_lung_{name}_mask.mha")
        ml = np.count_nonzero(mask.array > 0) * mask.grid.voxel_ml
        print(phase, f"{found[measure_code(f'volume_{phase}').meaning]:.0f} ml (mask {ml:.0f} ml)")
        assert found[measure_code(f"volume_{phase}").meaning] == pytest.approx(ml, rel=0.05)
    # each is rounded to the first digit of its uncertainty, normal lung to a tenth
    known = [found[measure_code(f"{m}_sd").meaning] for m in FRACTIONS[1:4]]
    rounded = 0.05 + sum(10.0 ** math.floor(math.log10(sd)) / 2 for sd in known)
    total = sum(found[measure_code(m).meaning] for m in FRACTIONS[:4])
    assert total == pytest.approx(100, abs=rounded + 1e-6)
