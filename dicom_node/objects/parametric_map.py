"""Maps -> Parametric Map (PS3.3 A.75), 32-bit float, on the working grid; an instance and series for each map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from highdicom import (
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
    VOILUTTransformation,
)
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom import Dataset

from analysis.pipeline import Analysis
from analysis.volume import Float

from . import codes
from .case import Case

#: Value of voxels a map says nothing of (Float Pixel Padding Value); no viewer may meet a NaN.
OUTSIDE = 0.0


@dataclass(frozen=True)
class MapKind:
    """What a map of `analysis.pipeline.Analysis.maps` is called.

    Parameters
    ----------
    label : str
        Content Label: upper case, at most 16 characters (VR CS).
    words : str
        Content Description, at most 64 characters.
    unit : str
        UCUM.
    """

    label: str
    words: str
    unit: str


MAPS: Mapping[str, MapKind] = {
    "V": MapKind("VQ_VENTILATION", "Ventilation V = J - 1", "ml/ml"),
    "Q": MapKind("VQ_PERFUSION", "Perfusion surrogate Q = |local mean of mass change|", "g/ml"),
    "m": MapKind("VQ_MASS_CHANGE", "Signed local mean of apparent mass change m", "g/ml"),
    "V/Q": MapKind("VQ_RATIO", "Ratio of normalised V and Q", "1"),
    "jacobian": MapKind("VQ_JACOBIAN", "Jacobian determinant, expiration to inspiration", "1"),
}


def build_maps(analysis: Analysis, case: Case) -> Iterator[Dataset]:
    """One Parametric Map for each of `MAPS` the analysis has."""
    for name in MAPS:
        if name in analysis.maps:
            yield _build(name, analysis, case)


def _build(name: str, analysis: Analysis, case: Case) -> ParametricMap:
    kind, grid = MAPS[name], analysis.grid
    values = np.where(np.isfinite(analysis.maps[name]), analysis.maps[name], OUTSIDE).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    orientation = [float(c) for c in (*grid.directions[:, 2], *grid.directions[:, 1])]
    index = np.zeros((grid.shape[0], 3))
    index[:, 0] = np.arange(grid.shape[0])
    ds = ParametricMap(
        source_images=list(case.expiratory),
        pixel_array=values,
        **case.series_of(analysis, f"map {name}"),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            RealWorldValueMapping(
                lut_label=kind.label, lut_explanation=kind.words, unit=codes.unit_code(kind.unit),
                value_range=(low, high), slope=1.0, intercept=0.0, quantity_definition=codes.MAP_QUANTITIES[name],
            )
        ],
        voi_lut_transformations=[_window(analysis.maps[name])],
        pixel_measures=PixelMeasuresSequence(grid.spacing[1:], grid.spacing[0], grid.spacing[0]),
        plane_orientation=PlaneOrientationSequence("PATIENT", orientation),
        plane_positions=[PlanePositionSequence("PATIENT", p.tolist()) for p in grid.points(index)],
        content_label=kind.label,
        content_description=kind.words,
        series_description=f"{kind.words[:42]} (research use only)",
        coding_schemes=[codes.scheme_item()],
    )  # fmt: skip
    ds.BodyPartExamined = "CHEST"
    ds.FloatPixelPaddingValue = ds.FloatPixelPaddingRangeLimit = OUTSIDE
    case.stamp(ds)
    return ds


def _window(values: Float) -> VOILUTTransformation:
    """The middle 96 % of the values: a ratio's few extremes must not dim the rest."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [2, 98]) if finite.size else (0.0, 1.0)
    width = max(float(high - low), 1e-6)
    return VOILUTTransformation(float(low + high) / 2, width, voi_lut_function="LINEAR_EXACT")
