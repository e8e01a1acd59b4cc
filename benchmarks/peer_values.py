"""An analysis, its images and its lungs through others' code: rows of ours beside theirs, for `validation.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from analysis.pipeline.pipeline import Analysis, Phase
from analysis.registration.registration import jacobian
from analysis.volume import Grid, Volume

Row = dict[str, Any]


def jacobian_rows(analysis: Analysis, exp: Phase) -> Iterator[Row]:
    """J of the same displacement by ITK's filter, over the lungs: before it is scaled to each lung's growth."""
    image = sitk.GetImageFromArray(analysis.displacement.astype(np.float64), isVector=True)
    place(image, analysis.grid)
    theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    inside = ndimage.binary_erosion(exp.lungs > 0, iterations=2)
    along = (analysis.displacement @ analysis.grid.directions).astype(np.float32)
    ours, theirs = jacobian(along, analysis.grid.spacing)[inside], theirs[inside]
    peer = "ITK DisplacementFieldJacobianDeterminant"
    yield {"value": "J, mean", "peer": peer, "ours": float(ours.mean()), "theirs": float(theirs.mean())}
    largest = f"largest difference {np.abs(ours - theirs).max():.2g}"
    yield {
        "value": "J, SD",
        "peer": peer,
        "ours": float(ours.std()),
        "theirs": float(theirs.std()),
        "note": largest,
    }


def place(image: sitk.Image, grid: Grid) -> None:
    """Spacing, origin and directions of an image."""
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.affine[:3, 3].tolist())
    image.SetDirection(grid.directions[:, ::-1].ravel().tolist())


def density_rows(name: str, volume: Volume, phase: Phase, analysis: Analysis) -> Iterator[Row]:
    """Volume, mean density and low attenuation of the CT's own voxels by ITK's statistics of labels."""
    lungs = phase.fine((phase.lungs > 0).astype(np.uint8))
    hu = np.asarray(volume.array, np.int16)
    inside = (lungs > 0) & (hu <= -250)
    parts = {"volume": lungs, "parenchyma": inside.astype(np.uint8)}
    threshold = -950 if name == "inspiration" else -856
    parts["low"] = (inside & (hu < threshold)).astype(np.uint8)
    found = {}
    for part, mask in parts.items():
        images = [sitk.GetImageFromArray(a) for a in (mask, hu)]
        for image in images:
            place(image, volume.grid)
        statistics = sitk.LabelIntensityStatisticsImageFilter()
        statistics.Execute(*images)
        found[part] = (statistics.GetPhysicalSize(1) / 1000, statistics.GetMean(1))
    measures, short = analysis.measures["lungs"], {"inspiration": "insp", "expiration": "exp"}[name]
    peer = "ITK LabelIntensityStatistics"
    theirs = {
        f"volume_{short}": found["volume"][0],
        f"mld_{short}": found["parenchyma"][1],
        f"laa{-threshold}": 100 * found["low"][0] / found["parenchyma"][0],
    }
    for measure, value in theirs.items():
        yield {"value": measure, "peer": peer, "ours": measures[measure], "theirs": float(value)}


def prm_rows(folder: Path, analysis: Analysis, exp: Phase) -> Iterator[Row]:
    """The four quadrants by the peer's own functions, its own median filter (in the slice) and its own limits."""
    sys.path.insert(0, str(folder))
    import constants
    from subject_classmap import Subject

    subject = Subject({"subjInfo": {"subjID": "twin"}, "io": {"outDir": ""}})
    subject.expArray, subject.inspRegArray = (
        np.array(analysis.maps[name], dtype=float) for name in ("ct_exp", "ct_insp")
    )
    subject.maskArray = (exp.lungs > 0).astype(int)
    subject.applyMedFilts()
    subject.excludeVoxels()
    subject.classifyVoxelsPrm()
    lung = (subject.maskArray > 0).sum()
    names = {
        "NORM": "prm_normal",
        "FSAD": "prm_fsad",
        "EMPH": "prm_emphysema",
        "EMPTEMPH": "prm_unclassified",
    }
    for theirs, ours in names.items():
        number = getattr(constants.proc, f"PRM_NUM_{theirs}")
        share = 100 * np.count_nonzero(subject.prmAllArray == number) / lung
        yield {
            "value": ours, "peer": "Genentech topological PRM", "ours": analysis.measures["lungs"][ours],
            "theirs": float(share), "note": "median filter of 3 x 3 in the slice, ours 3 x 3 x 3",
        }  # fmt: skip
