"""V/Q maps from a pair of non-contrast chest CT volumes: arrays in, arrays out.

In the order of computation:

========================  =====================================================================
`volume`                  HU and where the voxels lie
`lungs`                   left and right lung, airways
`registration`            displacement from expiration to inspiration, Jacobian
`ventilation`             V from the Jacobian, or from HU
`perfusion`               apparent blood-mass change m and Q = \\|local mean of m\\|, a surrogate
`smoothing`               mask-normalised Gaussian
`parameters`              what a user chooses
`subregions`              the map that has given means over subregions, by least squares
`classes`                 normal, dead space, shunt, matched defect
`regions`                 lungs, left, right, six zones, five lobes
`measures`                one table of numbers a region
`quality`                 findings: pass, warn, fail
`phase`                   one CT, ready to be registered
`lobes`                   a mask of lobes, named and carried to both phases
`maps`                    two phases and the field between them: V, Q, V/Q
`uncertainty`             how firm a fraction is
`pipeline`                `analyse`: all of the above
`phantom`                 thorax phantoms with a known truth
`convergence`             what the voxel size costs where the Jacobian is known exactly
`twins`                   a real CT, breathing as another patient: pairs with a known truth
`captures`                colour pictures of the CT's slices
`figures`                 the page of three planes and the table
`trend`                   a patient's numbers over several dates: a page of the report
`report`                  PDF of two pages
`validation`              a result beside the truth
`gas_transfer`            reference values of DLCO by the user's table
`cohort`                  many results beside DLCO: correlation, groups; `cohort_figures`
`longitudinal`            two results of one patient: what changed; `longitudinal_figures`
========================  =====================================================================
"""

from .anatomy.regions import REGIONS
from .anatomy.sides import Lung
from .errors import AnalysisError, Rejected
from .measures.quality import Acquisition, Finding, QualityRejected
from .measures.table import MEASURES
from .pipeline.pipeline import Analysis, Parameters, Phase, analyse, analyse_phases, order_phases
from .volume import Grid, Volume
from .vq.classes import VQClass

__all__ = [
    "MEASURES",
    "REGIONS",
    "Acquisition",
    "Analysis",
    "AnalysisError",
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
]
