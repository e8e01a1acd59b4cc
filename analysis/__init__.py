"""V/Q maps from a pair of non-contrast chest CT volumes: arrays in, arrays out.

The rooms, in the order in which each may import those before it:

================  =====================================================================
`volume`          HU and where the voxels lie; files of images, masks and fields
`strict_json`     values as JSON without NaN
`parameters`      what a user chooses
`anatomy`         lungs, airways, pleura, regions
`registration`    displacement from expiration to inspiration, its Jacobian
`vq`              ventilation V, perfusion surrogate Q, smoothing, classes
`measures`        one table of numbers a region; findings: pass, warn, fail
`pipeline`        `analyse`: all of the above
`figures`         colours, captures, the page, the report
`followup`        two results of one patient: what changed
`cohort`          many results beside DLCO
`truth`           phantoms and twins whose answer is known; a result beside it
================  =====================================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .anatomy.regions import REGIONS
    from .anatomy.sides import Lung
    from .errors import AnalysisError, Rejected
    from .figures.overview import overview
    from .measures.findings import Finding, QualityRejected
    from .measures.quality import Acquisition
    from .measures.table import MEASURES
    from .pipeline.pipeline import Analysis, Parameters, Phase, analyse, analyse_phases, order_phases
    from .volume import DisplacementField, Grid, Volume
    from .vq.classes import VQClass

__all__ = [
    "MEASURES",
    "REGIONS",
    "Acquisition",
    "Analysis",
    "AnalysisError",
    "DisplacementField",
    "Finding",
    "Grid",
    "Lung",
    "Parameters",
    "Phase",
    "QualityRejected",
    "Rejected",
    "VQClass",
    "Volume",
    "analyse",
    "analyse_phases",
    "order_phases",
    "overview",
]

#: Where each public name lies; it is loaded when it is first asked for, for the numerical libraries take a second.
_HOMES = {
    "Acquisition": "measures.quality",
    "Analysis": "pipeline.pipeline",
    "AnalysisError": "errors",
    "DisplacementField": "volume",
    "Finding": "measures.findings",
    "Grid": "volume",
    "Lung": "anatomy.sides",
    "MEASURES": "measures.table",
    "Parameters": "pipeline.pipeline",
    "Phase": "pipeline.pipeline",
    "QualityRejected": "measures.findings",
    "REGIONS": "anatomy.regions",
    "Rejected": "errors",
    "VQClass": "vq.classes",
    "Volume": "volume",
    "analyse": "pipeline.pipeline",
    "analyse_phases": "pipeline.pipeline",
    "order_phases": "pipeline.pipeline",
    "overview": "figures.overview",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
