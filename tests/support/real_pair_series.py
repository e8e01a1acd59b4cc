"""A real pair of lung volumes (.mha) -> two DICOM series of one study: baseline is expiration, followup inspiration.

python tests/support/real_pair_series.py FOLDER OUT
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from analysis.volume import Grid, Volume
from dicom_node.dicom.ct_writer import Scan, write_ct_series

PHASES = {"baseline": "Exp", "followup": "Insp"}


def read_mha(path: Path) -> Volume:
    """A volume as ITK reads it; whatever is below air (-2048 outside the lung) becomes -1024."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, :3] = directions[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    array = np.clip(np.rint(sitk.GetArrayFromImage(image)), -1024, 3071).astype(np.int16)
    return Volume(array, Grid(array.shape, affine))


def write_pair(folder: Path, out: Path) -> dict[str, Volume]:
    """Write both phases into ``out``/baseline and ``out``/followup."""
    volumes = {}
    for number, (name, word) in enumerate(PHASES.items(), start=1):
        volumes[name] = read_mha(folder / f"3DCT_lung_{name}.mha")
        scan = Scan(f"Thorax {word} {volumes[name].grid.spacing[0]:.1f}", "real pair", number)
        write_ct_series(volumes[name], out / name, scan)
    return volumes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    write_pair(given.folder, given.out)


if __name__ == "__main__":
    main()
