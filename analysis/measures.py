"""Maps, classes and phases -> numbers: one table of measures for every region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What a number in the table means.

    Parameters
    ----------
    meaning : str
        Words for a report, at most 64 characters.
    unit : str
        UCUM: ``"1"``, ``"%"``, ``"ml"``, ``"g"``, ``"[hnsf'U]"``, ``"g/ml"``.
    """

    meaning: str
    unit: str


#: Every measure a region can have; the order is the order of reports.
MEASURES: Mapping[str, Measure] = {
    "normal": Measure("Normal lung, fraction of classified volume", "%"),
    "dead_space": Measure("Dead space, fraction of classified volume", "%"),
    "shunt": Measure("Shunt, fraction of classified volume", "%"),
    "matched_defect": Measure("Matched defect, fraction of classified volume", "%"),
    "total_abnormal": Measure("Total abnormal, fraction of classified volume", "%"),
    "classified_volume": Measure("Classified lung volume (expiration)", "ml"),
    "excluded": Measure("Lung not classified (vessels, rim), fraction of lung", "%"),
    "volume_exp": Measure("Lung volume, expiration", "ml"),
    "volume_insp": Measure("Lung volume, inspiration", "ml"),
    "volume_ratio": Measure("Lung volume ratio, expiration/inspiration", "1"),
    "mass_exp": Measure("Lung mass, expiration", "g"),
    "mass_insp": Measure("Lung mass, inspiration", "g"),
    "mass_ratio": Measure("Lung mass ratio, inspiration/expiration", "1"),
    "mean_v": Measure("Ventilation V = J - 1, mean", "1"),
    "cv_v": Measure("Ventilation, coefficient of variation", "1"),
    "h_v": Measure("Ventilation heterogeneity H = IQR/mean", "1"),
    "vdp": Measure("Ventilation defect percentage (V < 0.6 mean)", "%"),
    "mean_q": Measure("Perfusion surrogate Q = |mass change|, mean", "g/ml"),
    "mean_m": Measure("Signed apparent mass change m, mean", "g/ml"),
    "cv_q": Measure("Perfusion surrogate, coefficient of variation", "1"),
    "h_q": Measure("Perfusion surrogate heterogeneity H = IQR/mean", "1"),
    "qdp": Measure("Perfusion defect percentage (Q < 0.6 mean)", "%"),
    "mean_vq": Measure("Normalised V/Q ratio, median", "1"),
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
