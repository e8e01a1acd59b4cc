"""What a user chooses -> Parameters: what a result depends on besides the images; PictureStyle: how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import Rejected


@dataclass(frozen=True)
class Parameters:
    """Everything a result depends on besides the images; written into every result.

    Parameters
    ----------
    grid_mm : float
        Working resolution: axes finer than this are averaged in whole voxels.
    sigma_mm : float
        Standard deviation of the twiced Gaussian that smooths V and Q alike (6.5 mm: 14 mm FWHM, the noise of a plain
        one of 5 mm).
    ventilation : str
        How V is made: a key of `ventilation.VENTILATIONS`.
    perfusion : {"gaussian", "subregions", "deposit"}
        How the mass change is averaged: over a Gaussian, as the least-squares fit to subregions, or over a Gaussian
        after every inspiratory voxel's mass was deposited where it came from.
    tau_v, tau_q : float
        Relative counting error to which subregions grow, for the ``ijf`` ventilation and for perfusion.
    normalisation : {"mean", "percentile", "reference"}
        What V and Q are divided by: their mean, their 90th percentile, or `reference_v` and `reference_q`.
    reference_v, reference_q : float
        V and Q (g/ml) of healthy lung, for ``normalisation = "reference"``.
    gravity : bool
        Take the regression of log V and log Q on height out before they are compared with `low`.
    low : float
        V or Q below this share of what it is normalised by is low.
    min_defect_ml : float
        Smaller abnormal regions count as normal.
    rim_mm : float
        Width of the lung's rim left out of V, Q and classes.
    lobes : {"none", "own"}
        Where lobes come from when no mask of them is given: nowhere, or from the fissures on inspiration.
    accept_failed_checks : bool
        Produce a result although a quality check failed; the finding stays in the result.

    Raises
    ------
    Rejected
        Where a value is out of its range, or the reference is missing.
    """

    grid_mm: float = 2.0
    sigma_mm: float = 6.5
    ventilation: Literal["jacobian", "hu", "mass-corrected hu", "mcvc", "ijf", "delta svg"] = "jacobian"
    perfusion: Literal["gaussian", "subregions", "deposit"] = "gaussian"
    tau_v: float = 0.05
    tau_q: float = 0.0385
    normalisation: Literal["mean", "percentile", "reference"] = "mean"
    reference_v: float = 0.0
    reference_q: float = 0.0
    gravity: bool = False
    low: float = 0.60
    min_defect_ml: float = 1.0
    rim_mm: float = 3.0
    lobes: Literal["none", "own"] = "none"
    accept_failed_checks: bool = False

    def __post_init__(self) -> None:
        for name in ("grid_mm", "sigma_mm", "tau_v", "tau_q", "low"):
            if not getattr(self, name) > 0:
                raise Rejected(f"{name} must be more than 0, not {getattr(self, name):g}")
        for name in ("min_defect_ml", "rim_mm", "reference_v", "reference_q"):
            if not getattr(self, name) >= 0:
                raise Rejected(f"{name} must not be less than 0, not {getattr(self, name):g}")
        if not self.low < 1:
            raise Rejected(f"low is a share and less than 1, e.g. 0.6 for 60 %, not {self.low:g}")
        for name in ("tau_v", "tau_q"):
            if not getattr(self, name) < 1:
                raise Rejected(f"{name} is a share and less than 1, not {getattr(self, name):g}")
        if self.normalisation == "reference" and not (self.reference_v and self.reference_q):
            raise Rejected("normalisation by a reference needs reference_v and reference_q")


@dataclass(frozen=True)
class PictureStyle:
    """Hold what a site chooses of its pictures; nothing that is measured depends on it.

    Parameters
    ----------
    scale : {"mean", "absolute", "percentile"}
        What the colours of V and Q mean: shares of the mean over both lungs up to ``top``, values up to ``top_v`` and
        ``top_q``, or values up to the patient's own 98th percentile, which no other patient or date shares.
    top : float
        Upper end of the scale ``"mean"``.
    top_v, top_q : float
        Upper ends of the scale ``"absolute"``: V in its unit, Q in g/ml.
    slab_mm : float
        Thickness of the slabs of coronal and sagittal pictures, mm.

    Raises
    ------
    Rejected
        Where an end of a scale or the thickness is not more than 0.
    """

    scale: Literal["mean", "absolute", "percentile"] = "mean"
    top: float = 2.0
    top_v: float = 1.0
    top_q: float = 0.06
    slab_mm: float = 10.0

    def __post_init__(self) -> None:
        for name in ("top", "top_v", "top_q", "slab_mm"):
            if not getattr(self, name) > 0:
                raise Rejected(f"{name} must be more than 0, not {getattr(self, name):g}")
