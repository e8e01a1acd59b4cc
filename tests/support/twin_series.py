"""A zip of a real CT series and a real motion -> a pair of DICOM series of one study, and the truth beside them.

    python tests/support/twin_series.py normal001.zip copd04.npz OUT --phase inspiration

OUT/real holds the scanner's files as they are; OUT/made the other phase, of the same study, patient and frame of
reference; OUT/truth.npz what is true (see `truth_arrays`).
"""

from __future__ import annotations

import argparse
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import pixel_array

from analysis.anatomy.lungs import segment
from analysis.truth.breathing import PhaseName
from analysis.truth.motion import Motion
from analysis.truth.scanner import Look
from analysis.truth.twins import Twin, make_twin
from analysis.volume import Grid, Volume
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.research.validate import read_motion

COPIED = (
    "StudyInstanceUID", "FrameOfReferenceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "PatientName",
    "PatientID", "PatientBirthDate", "PatientSex", "PatientPosition", "ReferringPhysicianName",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class RealSeries:
    """The files of a series as they are, a header, and the volume."""

    files: dict[str, bytes]
    header: Dataset
    volume: Volume


def read_zip(path: Path) -> RealSeries:
    """Every CT slice of a zip, in the order of space."""
    slices: list[tuple[float, Dataset, np.ndarray]] = []
    files = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            try:
                ds = dcmread(io.BytesIO(data), stop_before_pixels=True)
            except InvalidDicomError:
                continue
            stored = pixel_array(io.BytesIO(data), raw=True).astype(np.float32)
            hu = np.clip(stored * float(ds.RescaleSlope) + float(ds.RescaleIntercept), -1024, 3071)
            slices.append((float(ds.ImagePositionPatient[2]), ds, hu.astype(np.int16)))
            files[f"{ds.SOPInstanceUID}.dcm"] = data
    slices.sort(key=lambda s: s[0])
    return RealSeries(files, slices[0][1], Volume(np.stack([s[2] for s in slices]), _grid(slices)))


def _grid(slices: list[tuple[float, Dataset, np.ndarray]]) -> Grid:
    first, last = slices[0][1], slices[-1][1]
    row, column = np.reshape(first.ImageOrientationPatient, (2, 3)).astype(float)
    start, end = (np.array(ds.ImagePositionPatient, dtype=float) for ds in (first, last))
    affine = np.eye(4)
    affine[:3, 0] = (end - start) / (len(slices) - 1)
    affine[:3, 1] = column * float(first.PixelSpacing[0])
    affine[:3, 2] = row * float(first.PixelSpacing[1])
    affine[:3, 3] = start
    return Grid((len(slices), int(first.Rows), int(first.Columns)), affine)


def write_twin(real: RealSeries, motion: Motion, phase: PhaseName, folder: Path, seed: int = 0) -> Twin:
    """Make the twin of a real series and write both phases and the truth into ``folder``."""
    labels = segment(real.volume).labels
    twin = make_twin(real.volume, labels, phase, motion, look=Look(), seed=seed)
    for name in ("real", "made"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, data in real.files.items():
        (folder / "real" / name).write_bytes(data)
    made, word = (twin.expiratory, "Exp") if phase == "inspiration" else (twin.inspiratory, "Insp")
    copied: dict[str, Any] = {k: real.header[k].value for k in COPIED if k in real.header}
    number = int(real.header.get("SeriesNumber") or 1) + 100
    scan = Scan(
        f"Thorax {word} {made.grid.spacing[0]:.1f}",
        f"twin of {real.header.StudyInstanceUID} {phase} {motion.volume_ratio:.6f} {seed}",
        number,
        kernel="B30f", attributes=copied,
    )  # fmt: skip
    write_ct_series(made, folder / "made", scan)
    np.savez(folder / "truth.npz", **truth_arrays(twin))
    return twin


def truth_arrays(twin: Twin) -> dict[str, Any]:
    """The whole truth; ``*_in_lungs`` in the order of ``x[lungs > 0]``, ``coarse_*`` on a grid of about 2 mm."""
    truth, grid = twin.truth, twin.expiratory.grid
    inside = truth.lungs > 0
    s = grid.spacing
    wide = grid.coarsen((max(1, int(2.3 / s[0])), max(1, int(2.3 / s[1])), max(1, int(2.3 / s[2]))))
    coarse = twin.truth_on(wide)
    return {
        "exp_affine": grid.affine, "insp_affine": twin.inspiratory.grid.affine, "lungs": truth.lungs,
        "classes": truth.classes, "displacement_in_lungs": truth.displacement[inside],
        "jacobian_in_lungs": truth.jacobian[inside], "mass_change_in_lungs": truth.mass_change[inside],
        "exp_landmarks": twin.exp_landmarks, "insp_landmarks": twin.insp_landmarks, "coarse_affine": wide.affine,
        **{f"coarse_{name}": values for name, values in vars(coarse).items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("zip", type=Path)
    parser.add_argument("npz", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--phase", choices=("inspiration", "expiration"), default="inspiration")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write_twin(read_zip(given.zip), read_motion(given.npz), given.phase, given.out, given.seed)


if __name__ == "__main__":
    main()
