"""analyse(inspiratory, expiratory, Parameters) -> Analysis: the whole computation, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from scipy import ndimage

from . import measures as ms
from . import quality
from .classes import classify, normalise
from .lungs import segment
from .perfusion import mass_change, perfusion
from .quality import Acquisition, Finding, QualityRejected
from .regions import REGIONS, ZONES_OF, zones
from .registration import RegistrationQuality, register, warp
from .smoothing import masked_gaussian
from .ventilation import density, jacobian_ventilation
from .volume import Float, Grid, Labels, Mask, Volume

Progress = Callable[[str, float], None]
MARGIN_MM = 20.0
VESSEL_HU = -250.0


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
class Phase:
    """One phase, ready to be registered.

    Attributes
    ----------
    grid : Grid
        The CT's own grid.
    work : Volume
        Averaged to about ``grid_mm`` and cropped to the lungs with a margin.
    lungs : (k, j, i) uint8
        Lungs on ``work.grid``.
    box : (3,) slice
        Where `work` lies in the averaged volume.
    factors : (3,) int
        How many voxels of the CT one voxel of `work` averages, along k, j, i.
    densities : measures.Densities
        Histograms of the CT's own voxels by zone.
    trachea_hu, edge_percent, mediastinal_hu : float
        What `quality` judges of one phase.
    """

    grid: Grid
    work: Volume
    lungs: Labels
    box: tuple[slice, slice, slice]
    factors: tuple[int, int, int]
    densities: ms.Densities
    trachea_hu: float
    edge_percent: float
    mediastinal_hu: float

    @classmethod
    def of(cls, volume: Volume, parameters: Parameters) -> Phase:
        """Find the lungs of a CT volume.

        Raises
        ------
        Rejected
            Where the volume shows no lungs.
        """
        whole = volume.coarsen(parameters.grid_mm)
        found = segment(whole)
        margin = np.ceil(MARGIN_MM / np.array(whole.grid.spacing)).astype(int)
        box = _box(found.labels > 0, margin)
        k, j, i = (round(a / b) for a, b in zip(whole.grid.spacing, volume.grid.spacing, strict=True))
        work, lungs = whole.crop(box), found.labels[box]
        zone = zones(lungs, work.grid)
        fine_box = (
            slice(box[0].start * k, box[0].stop * k),
            slice(box[1].start * j, box[1].stop * j),
            slice(box[2].start * i, box[2].stop * i),
        )
        densities = ms.Densities.of(volume.crop(fine_box), _repeat(zone, (k, j, i)))
        checks = (
            quality.trachea_hu(found.airways, whole),
            quality.edge_percent(found.labels, whole),
            quality.mediastinal_hu(found.labels, whole),
        )
        work = Volume(np.ascontiguousarray(work.array, dtype=np.float32), work.grid)
        return cls(volume.grid, work, np.ascontiguousarray(lungs), box, (k, j, i), densities, *checks)

    @property
    def lung_ml(self) -> float:
        """Volume of the lungs, mL."""
        return float((self.lungs > 0).sum()) * self.work.grid.voxel_ml

    def fine(self, labels: Labels) -> Labels:
        """Labels on ``work.grid`` carried to every voxel of the CT, (k, j, i) uint8 on `grid`."""
        out = np.zeros(self.grid.shape, dtype=np.uint8)
        starts = [s.start * f for s, f in zip(self.box, self.factors, strict=True)]
        values = _repeat(labels, self.factors)
        out[tuple(slice(a, a + n) for a, n in zip(starts, values.shape, strict=True))] = values
        return out


def _box(mask: Mask, margin: np.ndarray) -> tuple[slice, slice, slice]:
    k, j, i = (
        slice(max(int(b[0]) - m, 0), min(int(b[-1]) + 1 + m, n))
        for b, m, n in zip(
            [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))],
            margin.tolist(),
            mask.shape,
            strict=True,
        )
    )
    return k, j, i


def _repeat(labels: Labels, factors: tuple[int, int, int]) -> Labels:
    for axis, factor in enumerate(factors):
        labels = np.repeat(labels, factor, axis=axis)
    return labels


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
        NaN outside the classified lung: ``"V"`` (ml/ml), ``"Q"`` (g/ml), ``"m"`` (signed, g/ml), ``"V/Q"``
        (normalised ratio); finite everywhere: ``"jacobian"`` (1), ``"ct_exp"``, ``"ct_insp"`` (HU, the latter warped
        to expiration).
    displacement : (k, j, i, 3) float32 on `grid`
        u(x), mm, LPS (x, y, z): x + u(x) is the inspiratory point of expiratory point x.
    measures : mapping of region name to mapping of measure name to float
        Names of `regions.REGIONS` and `measures.MEASURES`; NaN where a region has no voxel.
    findings : tuple of Finding
        Every quality check, passed ones included.
    registration : RegistrationQuality
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
    findings: tuple[Finding, ...]
    registration: RegistrationQuality


def analyse(
    inspiratory: Volume,
    expiratory: Volume,
    parameters: Parameters | None = None,
    progress: Progress = lambda stage, share: None,
) -> Analysis:
    """V/Q analysis of a pair of non-contrast chest CT volumes.

    Parameters
    ----------
    inspiratory, expiratory : Volume
        HU, each on its own grid.
    parameters : Parameters
    progress : callable
        Called with the name of the stage and the share of it done, 0…1.

    Raises
    ------
    Rejected
        Where a volume shows no lungs, or one lung is missing in one phase.
    QualityRejected
        Where a quality check fails, unless ``parameters.accept_failed_checks``.
    """
    parameters = parameters or Parameters()
    progress("lungs", 0.0)
    insp = Phase.of(inspiratory, parameters)
    progress("lungs", 0.5)
    exp = Phase.of(expiratory, parameters)
    return analyse_phases(insp, exp, parameters, progress)


def analyse_phases(
    insp: Phase,
    exp: Phase,
    parameters: Parameters,
    progress: Progress = lambda stage, share: None,
    acquisitions: tuple[Acquisition, Acquisition] | None = None,
) -> Analysis:
    """As `analyse`, from phases whose lungs are known already.

    Parameters
    ----------
    insp, exp : Phase
    parameters : Parameters
    progress : callable
    acquisitions : (Acquisition, Acquisition), optional
        What the headers say of inspiration and expiration; checked with the rest.
    """
    findings = _pair_findings(insp, exp)
    if acquisitions:
        findings += quality.acquisition_findings(*acquisitions)
    _gate(findings, parameters)
    progress("registration", 0.0)
    registration = register(
        exp.work, exp.lungs, insp.work, insp.lungs, lambda share: progress("registration", share)
    )
    findings += quality.registration_findings(registration.quality)
    _gate(findings, parameters)
    progress("maps", 0.0)
    maps, mask, classes = vq(insp, exp, registration.displacement, registration.jacobian, parameters)
    progress("measures", 0.0)
    table = _measure(insp, exp, maps, classes, mask, parameters)
    for name in ("V", "Q", "m", "V/Q"):
        maps[name][~mask] = np.nan
    progress("measures", 1.0)
    return Analysis(
        parameters=parameters,
        version=version("vq-dicom-node"),
        expiratory=exp.grid,
        classes=exp.fine(classes),
        lungs=exp.fine(exp.lungs),
        grid=exp.work.grid,
        maps=maps,
        displacement=registration.displacement,
        measures=table,
        findings=findings,
        registration=registration.quality,
    )


def order_phases(a: Phase, b: Phase) -> tuple[Phase, Phase]:
    """(inspiration, expiration): the phase with the larger lungs is inspiration."""
    return (a, b) if a.lung_ml >= b.lung_ml else (b, a)


def _pair_findings(insp: Phase, exp: Phase) -> tuple[Finding, ...]:
    own = [
        finding
        for name, phase in (("inspiration", insp), ("expiration", exp))
        for finding in (
            quality.trachea_air(name, phase.trachea_hu),
            quality.field_of_view(name, phase.edge_percent),
            quality.mediastinal_density(name, phase.mediastinal_hu),
        )
    ]
    masses = insp.densities.mass_g("lungs"), exp.densities.mass_g("lungs")
    return (
        quality.lungs_found(exp.lungs),
        quality.volume_ratio(exp.lung_ml, insp.lung_ml),
        quality.mass_ratio(*masses),
        *own,
    )


def _gate(findings: tuple[Finding, ...], parameters: Parameters) -> None:
    if quality.failed(findings) and not parameters.accept_failed_checks:
        raise QualityRejected(findings)


def vq(
    insp: Phase, exp: Phase, displacement: Float, jacobian: Float, parameters: Parameters
) -> tuple[dict[str, Float], Mask, Labels]:
    """V, Q and classes from a displacement field.

    The mask has no lower limit of HU: in emphysema noise alone falls below -1000, and leaving out only the low
    tail would bias m.

    Parameters
    ----------
    insp, exp : Phase
    displacement, jacobian : (k, j, i, 3), (k, j, i) float32 on ``exp.work.grid``
        From expiration to inspiration, mm LPS; and J.
    parameters : Parameters

    Returns
    -------
    maps : dict of str to (k, j, i) float32
        As `Analysis.maps`, finite everywhere.
    mask : (k, j, i) bool
        Where they hold.
    classes : (k, j, i) uint8
        Values of `classes.VQClass`.
    """
    grid = exp.work.grid
    warped = warp(insp.work, grid.centres() + displacement)
    ct_exp = np.asarray(exp.work.array, dtype=np.float32)
    rim = ndimage.distance_transform_edt(exp.lungs > 0, sampling=grid.spacing) > parameters.rim_mm
    vessels = ndimage.binary_dilation((ct_exp > VESSEL_HU) | (warped > VESSEL_HU))
    mask = rim & ~vessels
    m = mass_change(jacobian, density(warped), density(ct_exp)).astype(np.float32)
    v, m = masked_gaussian((jacobian_ventilation(jacobian), m), mask, grid.spacing, parameters.sigma_mm)
    maps = {"V": v, "Q": perfusion(m).astype(np.float32), "m": m}
    v_n, q_n = normalise(maps["V"], mask), normalise(maps["Q"], mask)
    with np.errstate(divide="ignore", invalid="ignore"):
        maps["V/Q"] = np.where(mask, v_n / q_n, 0).astype(np.float32)
    classes = classify(
        v_n, q_n, mask, grid.voxel_ml, low=parameters.low, min_defect_ml=parameters.min_defect_ml
    )
    return {**maps, "jacobian": jacobian, "ct_exp": ct_exp, "ct_insp": warped}, mask, classes


def _measure(
    insp: Phase, exp: Phase, maps: Mapping[str, Float], classes: Labels, mask: Mask, parameters: Parameters
) -> dict[str, dict[str, float]]:
    zone = zones(exp.lungs, exp.work.grid)
    v, q, m = maps["V"][mask], maps["Q"][mask], maps["m"][mask]
    means = float(v.mean(dtype=np.float64)), float(q.mean(dtype=np.float64))
    hu = [ndimage.median_filter(maps[name], 3) for name in ("ct_insp", "ct_exp")]
    prm = (zone > 0) & np.logical_and.reduce([(h >= -1000) & (h <= -500) for h in hu])
    table = {}
    for region in REGIONS:
        inside = np.isin(zone, ZONES_OF[region])
        here, there = inside[mask], inside & prm
        table[region] = {
            **ms.class_measures(classes[inside & mask], int(inside.sum()), exp.work.grid.voxel_ml),
            **ms.map_measures(v[here], q[here], m[here], means, parameters.low),
            **ms.density_measures(insp.densities, exp.densities, region),
            **ms.prm_measures(hu[0][there], hu[1][there]),
        }
    return table
