"""analyse(inspiratory, expiratory, Parameters) -> Analysis: the whole computation, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..anatomy.regions import LOBES, ZONES_OF, zones
from ..errors import Rejected
from ..measures import quality
from ..measures import table as ms
from ..measures.bands import band, v_band
from ..measures.density import density_offset
from ..measures.effusion import effusion
from ..measures.findings import Finding, QualityRejected, failed
from ..measures.quality import Acquisition
from ..measures.shares import share_measures
from ..measures.steps import place_of
from ..parameters import Parameters
from ..registration.registration import Registration, RegistrationQuality, register
from ..volume import DisplacementField, Float, Grid, Labels, Mask, Volume
from ..vq.classes import classify
from . import saved
from .firmness import Errors, firmness
from .given_field import given_field
from .lobes import find_lobes, own_lobes
from .matched import make_maps, match, vq
from .phase import Phase, order_phases
from .uncertainty import borderline, sensitivity

__all__ = ["Analysis", "Parameters", "Phase", "analyse", "analyse_phases", "order_phases", "vq"]

Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Analysis:
    """Hold the result of one pair, on the expiratory CT.

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
        NaN outside the classified lung: ``"V"`` (unit as in `ventilation.VENTILATIONS`), ``"Q"`` (g/ml), ``"m"``
        (signed, g/ml), ``"V/Q"`` (normalised ratio), ``"V uncertainty"`` and ``"Q uncertainty"`` (standard uncertainty
        of V and Q over what they are normalised by); finite everywhere: ``"jacobian"`` (1), ``"ct_exp"``,
        ``"ct_insp"`` (HU, the latter warped to expiration).
    displacement : (k, j, i, 3) float32 on `grid`
        u(x), mm, LPS (x, y, z): x + u(x) is the inspiratory point of expiratory point x.
    measures : mapping of region name to mapping of measure name to float
        Names of `regions.REGIONS` and `measures.MEASURES`; NaN where a region has no voxel.
    sensitivity : mapping of region name to mapping of fraction to tuple of float
        Every fraction of `uncertainty.FRACTIONS` at each threshold of `uncertainty.THRESHOLDS`, percent.
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
    sensitivity: Mapping[str, Mapping[str, tuple[float, ...]]]
    findings: tuple[Finding, ...]
    registration: RegistrationQuality

    def __repr__(self) -> str:
        both = self.measures["lungs"]
        shares = ", ".join(f"{name.replace('_', ' ')} {both[name]:.1f} %" for name in ms.FIRM)
        poor = [f"{f.verdict}: {f.check}" for f in self.findings if f.verdict != "pass"]
        return f"Analysis({shares}; {'; '.join(poor) or 'all checks passed'}; {self.grid!r})"

    def rows(self) -> list[dict[str, str | float]]:
        """Return every measure of every region as a row for a table, e.g. ``pandas.DataFrame(result.rows())``.

        Returns
        -------
        list of dict
            Keys region, measure, value, unit (UCUM) and meaning; NaN where there is no value.
        """
        kinds = ms.measures_of(self.parameters.ventilation)
        return [
            {
                "region": region,
                "measure": name,
                "value": row[name],
                "unit": kind.unit,
                "meaning": kind.meaning,
            }
            for region, row in self.measures.items()
            for name, kind in kinds.items()
            if name in row
        ]

    def save(self, path: str | Path) -> None:
        """Write all of it into one file (``.npz``), which `load` reads.

        Raises
        ------
        OSError
            Where the file cannot be written.
        """
        saved.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Analysis:
        """Read what `save` wrote, or the ``analysis.npz`` of a result's folder.

        Raises
        ------
        Rejected
            Where there is no such file, or this version cannot read it.
        """
        return saved.load(cls, Path(path))


def analyse(
    inspiratory: Volume,
    expiratory: Volume,
    parameters: Parameters | None = None,
    progress: Progress = lambda stage, share: None,
    lungs: tuple[Volume | None, Volume | None] = (None, None),
    displacement: DisplacementField | None = None,
) -> Analysis:
    """Analyse ventilation and perfusion of a pair of non-contrast chest CT volumes.

    Parameters
    ----------
    inspiratory, expiratory : Volume
        HU, each on its own grid.
    parameters : Parameters
    progress : callable
        Called with the name of the stage and the share of it done, 0…1.
    lungs : (Volume or None, Volume or None)
        Masks of one's own for inspiration and expiration (`masks.with_own_lungs`); the lungs are found without.
    displacement : DisplacementField, optional
        A field of one's own, from expiration to inspiration; without one the CTs are registered.

    Raises
    ------
    Rejected
        Where a volume shows no lungs, or one lung is missing in one phase; or a mask or field does not fit the CT.
    QualityRejected
        Where a quality check fails, unless ``parameters.accept_failed_checks``.
    """
    parameters = parameters or Parameters()
    progress("lungs", 0.0)
    with ThreadPoolExecutor(2) as threads:
        insp, exp = threads.map(Phase.of, (inspiratory, expiratory), (parameters, parameters), lungs)
    return analyse_phases(insp, exp, parameters, progress, displacement=displacement)


def analyse_phases(
    insp: Phase,
    exp: Phase,
    parameters: Parameters,
    progress: Progress = lambda stage, share: None,
    acquisitions: tuple[Acquisition, Acquisition] | None = None,
    lobes: Volume | None = None,
    displacement: DisplacementField | None = None,
) -> Analysis:
    """Analyse as `analyse` does, from phases whose lungs are known already.

    Parameters
    ----------
    insp, exp : Phase
    parameters : Parameters
    progress : callable
    acquisitions : (Acquisition, Acquisition), optional
        What the headers say of inspiration and expiration; checked with the rest. ``parameters.gravity`` needs them.
    lobes : Volume, optional
        Five labels, on either CT (`lobes.find_lobes`); they go before ``parameters.lobes``.
    displacement : DisplacementField, optional
        Used instead of our own registration.

    Raises
    ------
    Rejected, QualityRejected
        As `analyse`; also where ``lobes`` are not lobes of these lungs.
    """
    height = _height(exp.work.grid, acquisitions) if parameters.gravity else None
    drawn = find_lobes(lobes, insp, exp) if lobes else None
    findings = _pair_findings(insp, exp)
    if acquisitions:
        findings += quality.acquisition_findings(*acquisitions)
    _gate(findings, parameters)
    if drawn is None and parameters.lobes == "own":
        drawn, seen = own_lobes(insp)
        findings += (seen,)
    progress("registration", 0.0)
    registration = given_field(insp, exp, displacement) if displacement else _registered(insp, exp, progress)
    findings += quality.registration_findings(registration.quality)
    _gate(findings, parameters)
    progress("maps", 0.0)
    pair = match(
        insp, exp, registration.displacement, registration.jacobian, parameters.rim_mm, registration.inverse
    )
    maps, v_n, q_n = make_maps(pair, parameters, height)
    mask, voxel_ml = pair.mask, pair.grid.voxel_ml
    classes = classify(v_n, q_n, mask, voxel_ml, parameters.low, parameters.min_defect_ml)
    findings += (quality.perfusion_agreement(maps["m"][mask], maps.pop("m deposit")[mask]),)
    across = v_band(np.where(mask, maps["V"], np.float32(np.nan)), exp.lungs, pair.grid.spacing[0])
    findings += (band(across, place_of(pair.grid, across.slice_index)),)
    _gate(findings, parameters)
    progress("measures", 0.0)
    by_lobe = drawn.carried(insp, exp, registration.displacement, registration.inverse) if drawn else None
    regions = _regions(exp, by_lobe[1] if by_lobe else None)
    curves = sensitivity(v_n, q_n, mask, voxel_ml, parameters.min_defect_ml, regions)
    firm = firmness(pair, regions, parameters, Errors.of(registration.quality), height)
    near = borderline(classes, (v_n, q_n), (firm.v, firm.q), parameters.low, regions)
    table = _measure(insp, exp, maps, classes, mask, regions, by_lobe)
    for region, row in table.items():
        row |= ms.firmness_measures(curves[region], firm.percent[region], near[region])
        row |= share_measures(table, region, parameters.ventilation)
    for name in ("V", "Q", "m", "V/Q"):
        maps[name][~mask] = np.nan
    maps |= {"V uncertainty": firm.v, "Q uncertainty": firm.q}
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
        sensitivity=curves,
        findings=findings,
        registration=registration.quality,
    )


def _registered(insp: Phase, exp: Phase, progress: Progress) -> Registration:
    return register(
        exp.work,
        exp.lungs,
        insp.work,
        insp.lungs,
        lambda share: progress("registration", share),
        (exp.ct, insp.ct),
    )


def _pair_findings(insp: Phase, exp: Phase) -> tuple[Finding, ...]:
    masses = insp.densities.mass_g("lungs"), exp.densities.mass_g("lungs")
    return (
        quality.lungs_found(exp.lungs),
        quality.volume_ratio(exp.lung_ml, insp.lung_ml),
        quality.mass_ratio(*masses),
        *insp.scan.findings("inspiration"),
        *exp.scan.findings("expiration"),
        effusion(insp.scan.behind, exp.scan.behind),
        density_offset(
            (exp.scan.trachea_hu, insp.scan.trachea_hu), (exp.scan.mediastinal_hu, insp.scan.mediastinal_hu)
        ),
    )


def _gate(findings: tuple[Finding, ...], parameters: Parameters) -> None:
    if failed(findings) and not parameters.accept_failed_checks:
        raise QualityRejected(findings)


def _height(grid: Grid, acquisitions: tuple[Acquisition, Acquisition] | None) -> Float:
    """Return the height of every voxel above the floor (mm), as the patient lay on expiration."""
    up = acquisitions[1].up if acquisitions else None
    if up is None:
        raise Rejected("gravity's part of V and Q cannot be taken out: nothing says how the patient lay")
    return grid.centres() @ np.array(up, dtype=np.float32)


def _regions(exp: Phase, lobes: Labels | None) -> dict[str, Mask]:
    """Return the voxels of every region on the expiratory working grid; of lobes, where they are known."""
    zone = zones(exp.lungs, exp.work.grid)
    out = {region: np.isin(zone, labels) for region, labels in ZONES_OF.items()}
    if lobes is not None:
        known = set(np.unique(lobes).tolist())
        out |= {name: lobes == label for label, name in enumerate(LOBES, 1) if label in known}
    return out


def _measure(
    insp: Phase,
    exp: Phase,
    maps: Mapping[str, Float],
    classes: Labels,
    mask: Mask,
    regions: Mapping[str, Mask],
    lobes: tuple[Labels, Labels] | None,
) -> dict[str, dict[str, float]]:
    v, q, m = maps["V"][mask], maps["Q"][mask], maps["m"][mask]
    means = float(v.mean(dtype=np.float64)), float(q.mean(dtype=np.float64))
    insp_hu, exp_hu = maps["ct_insp"][mask], maps["ct_exp"][mask]
    mass_change = insp.densities.mass_g("lungs") / exp.densities.mass_g("lungs") - 1
    hu = [ndimage.median_filter(maps[name], 3) for name in ("ct_insp", "ct_exp")]
    prm = (exp.lungs > 0) & np.logical_and.reduce([(h >= -1000) & (h <= -500) for h in hu])
    densities = insp.densities, exp.densities
    of_lobes = (insp.lobe_densities(lobes[0]), exp.lobe_densities(lobes[1])) if lobes else densities
    table = {}
    for region, inside in regions.items():
        here, there = inside[mask], inside & prm
        table[region] = {
            **ms.class_measures(classes[inside & mask], int(inside.sum()), exp.work.grid.voxel_ml),
            **ms.map_measures(v[here], q[here], m[here], means),
            **ms.hu_measures(insp_hu[here], exp_hu[here], mass_change),
            **ms.density_measures(*(of_lobes if region in LOBES else densities), region),
            **ms.prm_measures(hu[0][there], hu[1][there]),
        }
    return table
