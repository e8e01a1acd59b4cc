"""Maps -> Parametric Map (PS3.3 A.75), 32-bit float, on the expiratory CT's own grid; a series for each map.

A viewer lays a map over a CT only where both have the same rows, columns and slices: every slice is a frame, and a
voxel of the CT has the value of the voxel of the working grid it lies in.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
from highdicom import (
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
    VOILUTTransformation,
)
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom import Dataset

from analysis.figures.captures import on_slice, working_index
from analysis.pipeline.pipeline import Analysis
from analysis.volume import Float, Grid

from . import codes
from .context import Case, slice_of
from .kinds import Making
from .maps import MapKind, maps_of

#: Size of a map (bytes) above which it stays on the working grid: PACS refuse larger ones, and memory ends.
LARGEST = 2**30
#: Value of voxels without a value in the map (Float Pixel Padding Value), because viewers fail on NaN.
OUTSIDE = 0.0


def build(making: Making) -> Iterator[Dataset]:
    """Make the maps."""
    yield from build_maps(making.analysis, making.case)


def build_maps(analysis: Analysis, case: Case) -> Iterator[Dataset]:
    """Make a Parametric Map of each map of the analysis that is sent as one."""
    for name, kind in maps_of(analysis).items():
        if kind.label and name in analysis.maps:
            yield _build(name, kind, analysis, case)


def _build(name: str, kind: MapKind, analysis: Analysis, case: Case) -> ParametricMap:
    on_ct = 4 * int(np.prod(analysis.expiratory.shape)) <= LARGEST
    grid = analysis.expiratory if on_ct else analysis.grid
    known = analysis.maps[name][np.isfinite(analysis.maps[name])]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    orientation = [float(c) for c in (*grid.directions[:, 2], *grid.directions[:, 1])]
    index = np.zeros((grid.shape[0], 3))
    index[:, 0] = np.arange(grid.shape[0])
    slices = case.pair.expiratory.slices
    places = [s.position for s in slices] if on_ct else grid.points(index).tolist()
    ds = ParametricMap(
        source_images=list(case.expiratory),
        # highdicom makes the attributes from an empty stand-in; the values follow below
        pixel_array=np.broadcast_to(np.float32(0), grid.shape),
        **case.series_of(analysis, f"map {name}"),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            RealWorldValueMapping(
                lut_label=kind.label, lut_explanation=kind.meaning, unit=codes.unit_code(kind.unit),
                value_range=(min(low, OUTSIDE), max(high, OUTSIDE)), slope=1.0, intercept=0.0,
                quantity_definition=codes.MAP_QUANTITIES[name],
            )
        ],
        voi_lut_transformations=[_window(known)],
        pixel_measures=PixelMeasuresSequence(grid.spacing[1:], grid.spacing[0], grid.spacing[0]),
        plane_orientation=PlaneOrientationSequence("PATIENT", orientation),
        plane_positions=[PlanePositionSequence("PATIENT", p) for p in places],
        content_label=kind.label,
        content_description=kind.meaning,
        series_description=f"{kind.title} map (research use only)",
        coding_schemes=[codes.scheme_item()],
    )  # fmt: skip
    ds.BodyPartExamined = "CHEST"
    ds.FloatPixelData = _values(ds, name, analysis, grid)
    ds.FloatPixelPaddingValue = ds.FloatPixelPaddingRangeLimit = OUTSIDE
    case.stamp(ds)
    return ds


def _values(ds: Dataset, name: str, analysis: Analysis, grid: Grid) -> BytesIO:
    """Return Float Pixel Data (PS3.3 C.7.6.24): each frame holds the slice at its position."""
    on_ct, index = grid is analysis.expiratory, working_index(analysis)
    data = BytesIO(bytes(4 * int(np.prod(grid.shape))))  # filled in place: a map of a CT is 400 MB
    out = np.frombuffer(data.getbuffer(), dtype="<f4").reshape(grid.shape)
    for frame, place in zip(out, ds.PerFrameFunctionalGroupsSequence, strict=True):
        k = slice_of(place, grid)
        values = on_slice(analysis.maps[name], k, index) if on_ct else analysis.maps[name][k]
        known = np.isfinite(values)
        if on_ct:
            known &= analysis.lungs[k] > 0
        frame[...] = np.where(known, values, OUTSIDE)
    return data


def _window(known: Float) -> VOILUTTransformation:
    """Return a window of the middle 96 % of the values, so that a few extreme ratios do not dim the rest."""
    low, high = np.percentile(known, [2, 98]) if known.size else (0.0, 1.0)
    width = max(float(high - low), 1e-6)
    return VOILUTTransformation(float(low + high) / 2, width, voi_lut_function="LINEAR_EXACT")
