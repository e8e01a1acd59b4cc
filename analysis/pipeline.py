"""analyse(inspiratory, expiratory, Parameters) -> Analysis: the whole computation, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .quality import Finding
from .volume import Float, Grid, Labels

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Parameters:
    """Everything a result depends on besides the images; written into every result.

    Parameters
    ----------
    grid_mm : float
        Working resolution: axes finer than this are averaged in whole voxels.
    sigma_mm : float
        Standard deviation of the Gaussian that smooths V and Q alike (8 mm ~ 19 mm FWHM, as SPECT).
    low : float
        V or Q below this share of its mean is low.
    min_defect_ml : float
        Smaller abnormal regions count as normal.
    rim_mm : float
        Width of the lung's rim left out of V, Q and classes.
    accept_failed_checks : bool
        Produce a result although a quality check failed; the finding stays in the result.
    """

    grid_mm: float = 2.0
    sigma_mm: float = 8.0
    low: float = 0.60
    min_defect_ml: float = 1.0
    rim_mm: float = 3.0
    accept_failed_checks: bool = False


@dataclass(frozen=True, eq=False)
class Analysis:
    """The result of one pair, on the expiratory CT.

    Attributes
    ----------
    parameters : Parameters
        What it was made with.
    version : str
        Version of the software.
    expiratory : Grid
        The expiratory CT's own grid.
    classes : (k, j, i) uint8 on `expiratory`
        Values of `classes.VQClass`.
    lungs : (k, j, i) uint8 on `expiratory`
        Values of `lungs.Lung`: 0 none, 1 right, 2 left.
    grid : Grid
        Working grid: the expiratory CT's axes, cropped to the lungs and averaged to about ``grid_mm``.
    maps : mapping of str to (k, j, i) float32 on `grid`
        NaN outside the classified lung: ``"V"`` (ml/ml), ``"Q"`` (g/ml), ``"m"`` (signed, g/ml), ``"V/Q"`` (normalised
        ratio); finite everywhere: ``"jacobian"`` (1), ``"ct_exp"``, ``"ct_insp"`` (HU, warped to expiration).
    displacement : (k, j, i, 3) float32 on `grid`
        u(x), mm, LPS (x, y, z): x + u(x) is the inspiratory point of expiratory point x.
    measures : mapping of region name to mapping of measure name to float
        Names of `regions.REGIONS` and `measures.MEASURES`.
    findings : tuple of Finding
        Every quality check, passed ones included.
    """

    parameters: Parameters
    version: str
    expiratory: Grid
    classes: Labels
    lungs: Labels
    grid: Grid
    maps: Mapping[str, Float]
    displacement: Float
    measures: Mapping[str, Mapping[str, float]]
    findings: tuple[Finding, ...] = field(default_factory=tuple)
