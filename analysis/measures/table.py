"""Maps, classes and phases -> numbers: one table of measures for every region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..anatomy.regions import LABELS_OF
from ..volume import Labels, Volume
from ..vq.classes import VQClass
from ..vq.ventilation import (
    VENTILATIONS,
    delta_specific_volume,
    density,
    hu_ventilation,
    mass_corrected_hu_ventilation,
    mcvc,
)

HU_MIN, HU_MAX = -1024, 3071
HU = np.arange(HU_MIN, HU_MAX + 1, dtype=np.float64)
PARENCHYMA = HU <= -250


@dataclass(frozen=True)
class Measure:
    """Hold what a number in the table means.

    Parameters
    ----------
    meaning : str
        Words for a report, at most 64 characters.
    unit : str
        UCUM: ``"1"``, ``"%"``, ``"ml"``, ``"g"``, ``"[hnsf'U]"``, ``"g/ml"``.
    """

    meaning: str
    unit: str


#: Fractions whose uncertainty and sensitivity are measured.
FIRM: Mapping[str, str] = {
    "dead_space": "Dead space",
    "shunt": "Shunt",
    "matched_defect": "Matched defect",
    "total_abnormal": "Total abnormal",
}

#: Measures of a fraction's uncertainty and sensitivity, shown beside it.
FIRMNESS = frozenset(f"{name}_{kind}" for name in FIRM for kind in ("sd", "50", "75", "borderline"))

#: Where V or Q of a voxel lies whose class another draw of the errors could have changed.
NEAR = "within one SD of the threshold"

#: Share of the mean below which V or Q is a defect (129Xe convention).
DEFECT = 0.60

#: Every measure a region can have; the order is the order of reports.
MEASURES: Mapping[str, Measure] = {
    "normal": Measure("Normal lung, fraction of classified volume", "%"),
    "dead_space": Measure("Dead space, fraction of classified volume", "%"),
    "shunt": Measure("Shunt, fraction of classified volume", "%"),
    "matched_defect": Measure("Matched defect, fraction of classified volume", "%"),
    "total_abnormal": Measure("Total abnormal, fraction of classified volume", "%"),
    **{f"{name}_sd": Measure(f"{words}, standard uncertainty", "%") for name, words in FIRM.items()},
    **{f"{name}_50": Measure(f"{words}, at the threshold 0.50", "%") for name, words in FIRM.items()},
    **{f"{name}_75": Measure(f"{words}, at the threshold 0.75", "%") for name, words in FIRM.items()},
    **{f"{name}_borderline": Measure(f"{words}, share of it {NEAR}", "%") for name, words in FIRM.items()},
    "classified_volume": Measure("Classified lung volume (expiration)", "ml"),
    "excluded": Measure("Lung not classified (vessels, rim), fraction of lung", "%"),
    "share_volume": Measure("Share of the volume of both lungs (expiration)", "%"),
    "share_v": Measure("Share of total ventilation V", "%"),
    "share_q": Measure("Share of total perfusion surrogate Q", "%"),
    "remaining_v": Measure("Predicted share of V that stays after its resection", "%"),
    "remaining_q": Measure("Predicted share of Q that stays after its resection", "%"),
    "volume_exp": Measure("Lung volume, expiration", "ml"),
    "volume_insp": Measure("Lung volume, inspiration (total lung capacity)", "ml"),
    "tidal_gas": Measure("Gas volume inspired (change of gas volume)", "ml"),
    "volume_ratio": Measure("Lung volume ratio, expiration/inspiration", "1"),
    "mass_exp": Measure("Lung mass, expiration", "g"),
    "mass_insp": Measure("Lung mass, inspiration", "g"),
    "mass_ratio": Measure("Lung mass ratio, inspiration/expiration", "1"),
    "mean_v": Measure("Ventilation V = J - 1, mean", "1"),
    "cv_v": Measure("Ventilation, coefficient of variation", "1"),
    "h_v": Measure("Ventilation heterogeneity H = IQR/mean", "1"),
    "vdp": Measure("Ventilation defect percentage (V < 0.6 mean)", "%"),
    "v_hu": Measure("Ventilation from HU, of the regional means", "1"),
    "v_hu_corrected": Measure("Ventilation from HU, mass-corrected, of the regional means", "1"),
    "v_mcvc": Measure("Mass-conserving volume change, of the regional means", "1"),
    "delta_svg": Measure("Change of specific gas volume, of the regional means", "ml/g"),
    "mean_q": Measure("Perfusion surrogate Q = |mass change|, mean", "g/ml"),
    "mean_m": Measure("Signed apparent mass change m, mean", "g/ml"),
    "cv_q": Measure("Perfusion surrogate, coefficient of variation", "1"),
    "h_q": Measure("Perfusion surrogate heterogeneity H = IQR/mean", "1"),
    "qdp": Measure("Perfusion defect percentage (Q < 0.6 mean)", "%"),
    "median_vq": Measure("Normalised V/Q ratio, median", "1"),
    "mld_exp": Measure("Mean lung density, expiration", "[hnsf'U]"),
    "mld_insp": Measure("Mean lung density, inspiration", "[hnsf'U]"),
    "mld_ratio": Measure("Mean lung density ratio, expiration/inspiration", "1"),
    "laa950": Measure("Low attenuation area < -950 HU, inspiration", "%"),
    "laa856": Measure("Low attenuation area < -856 HU, expiration", "%"),
    "perc15": Measure("15th percentile of density, inspiration", "[hnsf'U]"),
    "prm_emphysema": Measure("PRM emphysema", "%"),
    "prm_fsad": Measure("PRM functional small airways disease", "%"),
    "prm_normal": Measure("PRM normal", "%"),
    "prm_unclassified": Measure("PRM not classified", "%"),
}


def measures_of(ventilation: str) -> Mapping[str, Measure]:
    """Return `MEASURES` in the words for V made by ``ventilation``, a key of `ventilation.VENTILATIONS`."""
    kind = VENTILATIONS[ventilation]
    mean_v = replace(MEASURES["mean_v"], meaning=f"Ventilation V = {kind.formula}, mean", unit=kind.unit)
    return {**MEASURES, "mean_v": mean_v}


@dataclass(frozen=True, eq=False)
class Densities:
    """Hold histograms of HU, one for each zone (or each lobe), in one phase.

    Parameters
    ----------
    counts : (7, n) int64
        Voxels of label 0 (none) to 6 at HU = column - 1024.
    voxel_ml : float
        Volume of a voxel, mL.
    """

    counts: NDArray[np.int64]
    voxel_ml: float

    @classmethod
    def of(cls, volume: Volume, labels: Labels) -> Densities:
        """Count the HU of a volume's own voxels; ``labels`` (k, j, i), zones or lobes, on the volume's grid."""
        inside = labels > 0
        hu = np.clip(volume.array[inside], HU_MIN, HU_MAX).astype(np.int64) - HU_MIN
        width = HU_MAX - HU_MIN + 1
        counts = np.bincount(labels[inside].astype(np.int64) * width + hu, minlength=7 * width).reshape(
            7, width
        )
        return cls(counts, volume.grid.voxel_ml)

    def histogram(self, region: str) -> NDArray[np.int64]:
        """Return the counts at HU_MIN … HU_MAX of a region of `regions.REGIONS`."""
        return self.counts[list(LABELS_OF[region])].sum(axis=0)

    def volume_ml(self, region: str) -> float:
        """Return the volume of the region, mL."""
        return float(self.histogram(region).sum() * self.voxel_ml)

    def mass_g(self, region: str) -> float:
        """Return the mass of the region, vessels included, g."""
        return float((self.histogram(region) * np.maximum(density(HU), 0)).sum() * self.voxel_ml)

    def gas_ml(self, region: str) -> float:
        """Return the volume of gas in the region, mL: -HU/1000 of every voxel (0 where HU is positive)."""
        return float((self.histogram(region) * np.clip(-HU / 1000, 0, 1)).sum() * self.voxel_ml)

    def mean_density(self, region: str) -> float:
        """Return the mean HU of the parenchyma (HU <= -250)."""
        counts = self.histogram(region)[PARENCHYMA]
        return _ratio(float((counts * HU[PARENCHYMA]).sum()), float(counts.sum()))

    def below(self, region: str, threshold: int) -> float:
        """Return the percent of the parenchyma below ``threshold`` HU (low attenuation area)."""
        counts = self.histogram(region)[PARENCHYMA]
        return 100 * _ratio(float(counts[HU[PARENCHYMA] < threshold].sum()), float(counts.sum()))

    def percentile(self, region: str, percent: float) -> float:
        """Return the HU below which ``percent`` of the parenchyma lies."""
        cumulated = np.cumsum(self.histogram(region)[PARENCHYMA])
        if cumulated[-1] == 0:
            return float("nan")
        return float(HU[int(np.searchsorted(cumulated, percent / 100 * cumulated[-1]))])


def density_measures(inspiration: Densities, expiration: Densities, region: str) -> dict[str, float]:
    """Return volumes, masses and densities of one region, each phase on its own CT and its own zones."""
    i, e = inspiration, expiration
    return {
        "volume_exp": e.volume_ml(region),
        "volume_insp": i.volume_ml(region),
        "volume_ratio": _ratio(e.volume_ml(region), i.volume_ml(region)),
        "tidal_gas": i.gas_ml(region) - e.gas_ml(region),
        "mass_exp": e.mass_g(region),
        "mass_insp": i.mass_g(region),
        "mass_ratio": _ratio(i.mass_g(region), e.mass_g(region)),
        "mld_exp": e.mean_density(region),
        "mld_insp": i.mean_density(region),
        "mld_ratio": _ratio(e.mean_density(region), i.mean_density(region)),
        "laa950": i.below(region, -950),
        "laa856": e.below(region, -856),
        "perc15": i.percentile(region, 15),
    }


def class_measures(classes: Labels, lung_voxels: int, voxel_ml: float) -> dict[str, float]:
    """Return the fractions of the classes in the voxels of one region.

    Parameters
    ----------
    classes : (n,) uint8
        `VQClass` of the region's voxels.
    lung_voxels : int
        All lung voxels of the region, unclassified ones included.
    voxel_ml : float
    """
    counts = np.bincount(classes, minlength=len(VQClass))
    classified = float(counts[1:].sum())
    percent = {c: 100 * _ratio(float(counts[c]), classified) for c in VQClass}
    return {
        "normal": percent[VQClass.NORMAL],
        "dead_space": percent[VQClass.DEAD_SPACE],
        "shunt": percent[VQClass.SHUNT],
        "matched_defect": percent[VQClass.MATCHED_DEFECT],
        "total_abnormal": 100 * _ratio(float(counts[2:].sum()), classified),
        "classified_volume": classified * voxel_ml,
        "excluded": 100 - 100 * _ratio(classified, float(lung_voxels)),
    }


def firmness_measures(
    curves: Mapping[str, tuple[float, ...]], errors: Mapping[str, float], near: Mapping[str, float]
) -> dict[str, float]:
    """Return uncertainty and sensitivity of the fractions of one region.

    Parameters
    ----------
    curves : mapping of fraction to tuple of float
        Percent at thresholds from 0.50 to 0.75.
    errors : mapping of fraction to float
        Standard uncertainty, percent of the classified lung.
    near : mapping of fraction to float
        Percent of the fraction that is borderline.
    """
    return (
        {f"{name}_sd": errors[name] for name in FIRM}
        | {f"{name}_50": curves[name][0] for name in FIRM}
        | {f"{name}_75": curves[name][-1] for name in FIRM}
        | {f"{name}_borderline": near[name] for name in FIRM}
    )


def _spread(values: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return mean, CV = SD/mean and H = IQR/mean."""
    if values.size == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(values.mean(dtype=np.float64))
    low, high = np.percentile(values, [25, 75])
    return mean, _ratio(float(values.std(dtype=np.float64)), mean), _ratio(float(high - low), mean)


def map_measures(
    v: NDArray[np.float32],
    q: NDArray[np.float32],
    m: NDArray[np.float32],
    means: tuple[float, float],
) -> dict[str, float]:
    """Return the heterogeneity of V and Q in the voxels of one region.

    Parameters
    ----------
    v, q, m : (n,) float32
        Smoothed V (ml/ml), Q and signed m (g/mL) of the region's classified voxels.
    means : (2,) float
        Mean V and mean Q of both lungs: what the defect percentages and V/Q are normalised by.
    """
    mean_v, cv_v, h_v = _spread(v)
    mean_q, cv_q, h_q = _spread(q)
    empty = v.size == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        vq = (v / means[0]) / (q / means[1])
    return {
        "mean_v": mean_v,
        "cv_v": cv_v,
        "h_v": h_v,
        "vdp": float("nan") if empty else 100 * float((v < DEFECT * means[0]).mean()),
        "mean_q": mean_q,
        "mean_m": float("nan") if empty else float(m.mean(dtype=np.float64)),
        "cv_q": cv_q,
        "h_q": h_q,
        "qdp": float("nan") if empty else 100 * float((q < DEFECT * means[1]).mean()),
        "median_vq": float("nan") if empty else float(np.nanmedian(vq)),
    }


def hu_measures(
    hu_insp: NDArray[np.float32], hu_exp: NDArray[np.float32], mass_change: float
) -> dict[str, float]:
    """Return ventilation by the HU methods of one region, taken as one subregion.

    Parameters
    ----------
    hu_insp, hu_exp : (n,) float32
        HU at corresponding points of the region's classified voxels.
    mass_change : float
        f = (M_insp - M_exp) / M_exp of both lungs.
    """
    insp, exp = (np.asarray(hu.mean(dtype=np.float64) if hu.size else np.nan) for hu in (hu_insp, hu_exp))
    return {
        "v_hu": float(hu_ventilation(insp, exp)),
        "v_hu_corrected": float(mass_corrected_hu_ventilation(insp, exp, mass_change)),
        "v_mcvc": float(mcvc(insp, exp)),
        "delta_svg": float(delta_specific_volume(insp, exp)),
    }


def prm_measures(hu_insp: NDArray[np.float32], hu_exp: NDArray[np.float32]) -> dict[str, float]:
    """Parametric response map of one region: insp/exp thresholds -950/-856 (Galbán 2012, doi:10.1038/nm.2971).

    Parameters
    ----------
    hu_insp, hu_exp : (n,) float32
        Median-filtered HU of the region's voxels at corresponding points, both within -1000…-500.

    Examples
    --------
    >>> prm_measures(np.array([-957.0, -908.0]), np.array([-940.0, -880.0]))["prm_emphysema"]
    50.0
    """
    n = float(hu_insp.size)
    airy_insp, airy_exp = hu_insp < -950, hu_exp < -856
    return {
        "prm_emphysema": 100 * _ratio(float((airy_insp & airy_exp).sum()), n),
        "prm_fsad": 100 * _ratio(float((~airy_insp & airy_exp).sum()), n),
        "prm_normal": 100 * _ratio(float((~airy_insp & ~airy_exp).sum()), n),
        "prm_unclassified": 100 * _ratio(float((airy_insp & ~airy_exp).sum()), n),
    }


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("nan")
