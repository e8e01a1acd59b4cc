"""From which strength on a fault of the scan is found, and what it does to the result.

    python benchmarks/quality.py OUT

Three parts, each alone with ``--part``:

images    every real CT as it is (false alarms) and with every fault of one phase at three strengths: found or not
effects   a twin whose made phase has the fault: what the fractions become, and which checks say so
shallow   twins without a defect at E/I of .80 to .96: how much of a healthy lung is called abnormal

Needs the real data of `$VQ_SHARED` (or ../shared). Killed and started again, it goes on with what is missing;
``--most N`` makes no more than N of them. Writes OUT/quality.md and OUT/cases.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from analysis.anatomy.lungs import LungSegmentation, segment
from analysis.measures.bands import v_band
from analysis.measures.effusion import Behind, effusion
from analysis.measures.scan import Scan
from analysis.pipeline.pipeline import Parameters, Phase, analyse_phases
from analysis.truth import faults
from analysis.truth.fields import Field
from analysis.truth.motion import Motion
from analysis.truth.scanner import Look
from analysis.truth.twins import Twin, make_twin
from analysis.truth.validation import true_percent
from analysis.volume import Labels, Volume
from analysis.vq.classes import VQClass
from dicom_node.research.validate import read_image, read_motion

SHARED = Path(os.environ.get("VQ_SHARED", Path(__file__).parent.parent.parent / "shared"))
CTS = {
    "Siemens": "real-ct/normal001-siemens-jpegll.zip",
    "Philips": "real-ct/popi-00-philips.zip",
    "tumour": "real-ct/lung1-001-siemens.zip",
    "pneumonia": "real-ct/midrc-1a-001012-ge.zip",
    "POPI 10 %": "real-pair-popi/popi-pair-2.5mm.zip:popi-pair-2.5mm/insp",
    "POPI 60 %": "real-pair-popi/popi-pair-2.5mm.zip:popi-pair-2.5mm/exp",
    "right lung, larger": "real-pair/3DCT_lung_followup.mha",
    "right lung, smaller": "real-pair/3DCT_lung_baseline.mha",
}
MOTION = "copd03"
FRACTIONS = ("dead_space", "shunt", "matched_defect", "total_abnormal")
RATIOS = (0.96, 0.92, 0.88, 0.84, 0.80)
PARAMETERS = Parameters(accept_failed_checks=True)
Row = dict[str, Any]
Fault = Callable[[Volume, Labels], Volume]


def main() -> None:
    """Every part, one table after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", choices=PARTS, action="append", help="only these")
    parser.add_argument("--most", type=int, default=10_000, help="cases made before it stops")
    given = parser.parse_args()
    (given.out / "cases").mkdir(parents=True, exist_ok=True)
    cases = Cases(given.out / "cases", given.most)
    for name in given.part or PARTS:
        (given.out / f"{name}.md").write_text("\n".join(PARTS[name](cases)) + "\n")
    done = [given.out / f"{name}.md" for name in PARTS]
    text = "\n".join(path.read_text() for path in done if path.exists())
    (given.out / "quality.md").write_text(text)
    print(text)


class Cases:
    """Rows that are made once and kept; at most so many new ones."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.left = folder, most

    def once(self, name: str, make: Callable[[], Row]) -> Row | None:
        """The row of a case; None where it is missing and no more may be made."""
        path = self.folder / f"{name.replace(' ', '_').replace('%', '').replace('/', '-')}.json"
        if not path.exists():
            if self.left <= 0:
                return None
            self.left -= 1
            start = time.perf_counter()
            row = make()
            path.write_text(json.dumps(row))
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        return dict(json.loads(path.read_text()))


# --- faults -----------------------------------------------------------------------------------------------------


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _middle(labels: Labels, share: float = 0.5) -> int:
    """The slice at a share of the lungs' height."""
    slices = np.flatnonzero((labels > 0).any(axis=(1, 2)))
    return int(slices[0] + share * len(slices))


def _metal(volume: Volume, labels: Labels, mm: float) -> Volume:
    """A rod beside the spine and one in front of the left lung, 16 mm high, in the middle of the lungs."""
    k, (_, row, column) = _middle(labels), volume.grid.spacing
    lung = np.argwhere(labels[k] > 0)
    (front, _), (back, _) = lung.min(axis=0), lung.max(axis=0)
    centre = float(lung[:, 1].mean())
    places = [(back - 5 / row, centre - 22 / column), (front - 8 / row, centre + 40 / column)]
    return faults.metal(volume, range(k, k + max(2, round(16 / volume.grid.spacing[0]))), places, mm, _rng())


#: Faults of one phase: their strengths, from weak to strong, and how each is made.
FAULTS: dict[str, tuple[tuple[float, ...], Callable[[Volume, Labels, float], Volume]]] = {
    "block missing, mm": (
        (3, 5, 10),
        lambda v, lungs, mm: faults.breathing_step(v, _middle(lungs), mm, _rng()),
    ),
    "block repeated, mm": (
        (3, 5, 10),
        lambda v, lungs, mm: faults.breathing_step(v, _middle(lungs), -mm, _rng()),
    ),
    "lateral step, mm": ((2, 3, 5), lambda v, lungs, mm: faults.lateral_step(v, _middle(lungs), mm)),
    "metal, mm": ((3, 6, 10), _metal),
    "noise, HU": ((50, 75, 100), lambda v, lungs, hu: faults.noise(v, hu, _rng())),
    "base cut, mm": ((10, 20, 30), faults.base_cut),
    "side cut, mm": ((10, 25, 50), faults.side_cut),
    "effusion, ml": ((250, 500, 1000), lambda v, lungs, ml: faults.effusion(v, lungs, ml, _rng())),
}

#: Those of the part `effects`: a density that is off everywhere is seen beside the other phase only.
EFFECTS = {
    **FAULTS,
    "density offset, HU": (
        (5, 10, 20),
        lambda v, lungs, hu: Volume(np.asarray(v.array) + np.int16(hu), v.grid),
    ),
}


#: The check that has to name each fault.
CHECKS = {
    "base cut, mm": "end slices",
    "side cut, mm": "sides",
    "block missing, mm": "breathing step",
    "block repeated, mm": "breathing step",
    "lateral step, mm": "breathing step",
    "metal, mm": "metal",
    "noise, HU": "noise",
}


# --- real CTs ---------------------------------------------------------------------------------------------------


def read(name: str) -> Volume:
    """A real CT."""
    file, _, inner = CTS[name].partition(":")
    if not inner:
        return read_image(SHARED / file)[0]
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(SHARED / file) as archive:
        archive.extractall(folder)
        return read_image(Path(folder) / inner)[0]


@lru_cache(maxsize=len(CTS))
def ct(name: str) -> tuple[Volume, Labels]:
    """A real CT and its lungs."""
    volume = read(name)
    return volume, segment(volume).labels


#: Faults that change the outline: the lungs are found anew.
ANEW = ("effusion, ml", "base cut, mm", "side cut, mm")
#: Whose lungs are found anew: that takes time.
WHOLE = ("Siemens", "Philips")


def images_part(cases: Cases) -> Iterator[str]:
    """Every real CT as it is and with each fault."""
    yield "## What is said of real CTs as they are\n"
    clean = {name: cases.once(f"clean {name}", lambda name=name: _said(*ct(name))) for name in CTS}  # type: ignore[misc]
    yield from table(
        {"CT": name, **row["values"], "said": "; ".join(row["said"])} for name, row in clean.items() if row
    )
    yield "## From which strength on a fault is found\n"
    yield from table(_found(cases, fault, clean) for fault in FAULTS)


def _found(cases: Cases, fault: str, clean: dict[str, Row | None]) -> Row:
    """In how many CTs a fault is found at each strength: its finding is worse than that of the CT as it is."""
    strengths, make = FAULTS[fault]
    out: Row = {"fault": fault}
    for n, strength in enumerate(strengths):
        verdicts = []
        for name in CTS if fault not in ANEW else WHOLE:

            def row(name: str = name, strength: float = strength) -> Row:
                volume, labels = ct(name)
                made = make(volume, labels, strength)
                if fault in ANEW:
                    return _said(made, segment(made).labels)
                return _said(made, _fitting(labels, made))

            made, before = cases.once(f"{fault} {strength:g} {name}", row), clean[name]
            if made and before:
                verdicts.append(_verdict(fault, made, before))
        told = " + ".join(f"{verdicts.count(v)} {v}" for v in ("fail", "warn") if v in verdicts) or "none"
        out[f"strength {n + 1}"] = f"{strength:g}: {told} of {len(verdicts)}"
    return out


def _fitting(labels: Labels, volume: Volume) -> Labels:
    """The lungs of the CT as it is, on as many slices as the fault left."""
    more = max(volume.grid.shape[0] - len(labels), 0)
    return np.pad(labels, ((0, more), (0, 0), (0, 0)))[: volume.grid.shape[0]]


def _verdict(fault: str, made: Row, before: Row) -> str:
    """The verdict of the fault's own check; the effusion's beside the CT as it is, as the other phase."""
    if fault == ANEW[0]:
        return effusion(_behind(before), _behind(made)).verdict
    return str(made["verdicts"][CHECKS[fault]])


def _behind(row: Row) -> Behind:
    return Behind(row["values"]["behind mm"], row["values"]["behind cm²"])


def _said(volume: Volume, labels: Labels) -> Row:
    whole = volume.coarsen(PARAMETERS.grid_mm)
    k, j, i = (round(a / b) for a, b in zip(whole.grid.spacing, volume.grid.spacing, strict=True))
    n = whole.grid.shape
    coarse = labels[k // 2 :: k, j // 2 :: j, i // 2 :: i][: n[0], : n[1], : n[2]]
    start = time.process_time()
    scan = Scan.of(volume, whole, LungSegmentation(coarse, np.zeros(n, dtype=np.bool_)), (k, j, i))
    seconds = time.process_time() - start
    findings = [f for f in scan.findings("it") if not f.check.startswith("trachea")]
    return {
        "said": [f"{f.verdict}: {f.sentence}" for f in findings if f.verdict != "pass"],
        "verdicts": {f.check.partition(",")[0]: f.verdict for f in findings},
        "values": {
            "sides cm²": scan.sides_cm2,
            "end slices cm²": max(scan.end_slices_cm2),
            "jump mm": scan.step.jump_mm,
            "sideways mm": scan.step.sideways_mm,
            "scanned twice mm": scan.step.repeat_mm,
            "metal ml": scan.metal.ml,
            "noise HU": scan.noise_hu,
            "behind mm": scan.behind.thick_mm,
            "behind cm²": scan.behind.area_cm2,
            "CPU s": seconds,
        },
    }


# --- effects ----------------------------------------------------------------------------------------------------


def breathing(case: str) -> Motion:
    """The breathing of a patient of either set of `real-motion`."""
    folder = "l2r" if case.startswith("l2r") else ""
    return read_motion(SHARED / "real-motion" / folder / f"{case}.npz")


@lru_cache(maxsize=1)
def twin(name: str, case: str, level: float = 1.0, even: bool = False) -> Twin:
    """A twin of a real CT as inspiration; ``level`` is the share of the motion that it takes.

    An ``even`` one has no defect and the same V everywhere: whatever is abnormal in its result is false.
    """
    motion = shallower(breathing(case), level)
    volume, labels = ct(name)
    return make_twin(
        volume, labels, "inspiration", motion, () if even else None, Look(variety=0.0 if even else 0.5)
    )


def shallower(motion: Motion, level: float) -> Motion:
    """The same breathing, ``level`` of its way."""
    fields = {
        n: Field(f.coefficients * np.float32(level), f.origin, f.step) for n, f in motion.fields.items()
    }
    return replace(motion, fields=fields)


def judged(made: Twin, expiratory: Volume) -> Row:
    """Fractions of a pair, found and true in the same voxels, and what its checks say."""
    phases = Phase.of(made.inspiratory, PARAMETERS), Phase.of(expiratory, PARAMETERS)
    analysis = analyse_phases(*phases, PARAMETERS)
    row: Row = {n: analysis.measures["lungs"][n] for n in (*FRACTIONS, "volume_ratio")}
    row["true total"] = 100 - true_percent(analysis, made.truth_on(analysis.grid))[VQClass.NORMAL]
    row["findings"] = [f"{f.verdict}: {f.check}" for f in analysis.findings if f.verdict != "pass"]
    found = v_band(analysis.maps["V"], phases[1].lungs, analysis.grid.spacing[0])
    row["band of V"], row["its slice"] = found.change, found.slice_index
    row["similarity"] = analysis.registration.similarity
    row["feature residual"] = analysis.registration.feature_residual
    return row


def effects_part(cases: Cases) -> Iterator[str]:
    """One twin; its expiration with every fault."""
    yield "## What a fault does to the result\n"
    rows = {"none": cases.once("effect none", lambda: _effect(None, 0))}
    for n in (2, 1, 0):
        for fault, (strengths, _) in EFFECTS.items():
            strength = strengths[n]
            rows[f"{fault.split(',')[0]} {strength:g} {fault.split(', ')[1]}"] = cases.once(
                f"effect {fault} {strength:g}",
                lambda fault=fault, strength=strength: _effect(fault, strength),  # type: ignore[misc]
            )
    yield from table(
        {
            "fault of expiration": name,
            **{f"{f.replace('_', ' ')} %": row[f] for f in FRACTIONS},
            "band of V": row["band of V"],
            "similarity": row["similarity"],
            "said": ", ".join(row["findings"]),
        }
        for name, row in rows.items()
        if row
    )


def _effect(fault: str | None, strength: float) -> Row:
    made = twin("Siemens", MOTION)
    expiratory = made.expiratory
    if fault:
        expiratory = EFFECTS[fault][1](expiratory, made.truth.lungs, strength)
    return judged(made, expiratory)


# --- shallow breaths --------------------------------------------------------------------------------------------


def shallow_part(cases: Cases) -> Iterator[str]:
    """Twins without a defect, from a deep to a shallow breath."""
    yield "## How many false abnormals a shallow breath makes\n"
    rows = []
    for name in ("Siemens", "Philips"):
        for ratio in RATIOS:
            row = cases.once(
                f"shallow {name} {ratio}",
                lambda name=name, ratio=ratio: _shallow(name, ratio),  # type: ignore[misc]
            )
            if row:
                rows.append({"CT": name, "E/I asked for": ratio, **row})
    yield from table(
        {
            "CT": row["CT"],
            "E/I found": row["volume_ratio"],
            "true total %": row["true total"],
            **{f"{f.replace('_', ' ')} %": row[f] for f in FRACTIONS},
            "similarity": row["similarity"],
            "feature residual mm": row["feature residual"],
        }
        for row in rows
    )


def _shallow(name: str, ratio: float) -> Row:
    motion = breathing(MOTION)
    level = (1 / ratio - 1) / (motion.volume_ratio - 1)
    made = twin(name, MOTION, level, even=True)
    return judged(made, made.expiratory)


def table(rows: Iterator[Row]) -> Iterator[str]:
    """Markdown of rows with the same keys."""
    for n, row in enumerate(rows):
        if n == 0:
            yield "| " + " | ".join(row) + " |"
            yield "|" + "---|" * len(row)
        yield "| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()) + " |"
    yield ""


#: The parts, in the order of the report.
PARTS: dict[str, Callable[[Cases], Iterator[str]]] = {
    "images": images_part,
    "effects": effects_part,
    "shallow": shallow_part,
}

if __name__ == "__main__":
    main()
