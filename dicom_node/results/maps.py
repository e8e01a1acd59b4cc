"""Every map of a result -> what it is called, in files and in DICOM: one row a map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from analysis.pipeline.pipeline import Analysis
from analysis.vq.ventilation import VENTILATIONS


@dataclass(frozen=True)
class MapKind:
    """Hold the names of a map of `analysis.pipeline.pipeline.Analysis.maps`, in files and in DICOM.

    Parameters
    ----------
    file : str
        Name of its NIfTI file.
    unit : str
        UCUM.
    meaning : str
        Content Description of a Parametric Map: at most 64 characters.
    label : str
        Content Label of a Parametric Map, upper case and at most 16 characters (VR CS); "" if it is not sent.
    title : str
        For lists of series.
    """

    file: str
    unit: str
    meaning: str
    label: str = ""
    title: str = ""


#: By their names in `Analysis.maps`, on the working grid; NaN outside the classified lung where a map has no value.
MAPS: Mapping[str, MapKind] = {
    "V": MapKind("V.nii.gz", "ml/ml", "Ventilation V", "VQ_VENTILATION", "Ventilation V"),
    "Q": MapKind(
        "Q.nii.gz", "g/ml", "Perfusion surrogate Q = |local mean of mass change|", "VQ_PERFUSION",
        "Perfusion surrogate Q",
    ),
    "m": MapKind(
        "m.nii.gz", "g/ml", "Signed local mean of apparent mass change m", "VQ_MASS_CHANGE", "Signed mass change m"
    ),
    "V/Q": MapKind("VQ.nii.gz", "1", "Ratio of normalised V and Q", "VQ_RATIO", "Normalised V/Q"),
    "V uncertainty": MapKind("V_uncertainty.nii.gz", "1", "Standard uncertainty of normalised V"),
    "Q uncertainty": MapKind("Q_uncertainty.nii.gz", "1", "Standard uncertainty of normalised Q"),
    "jacobian": MapKind(
        "jacobian.nii.gz", "1", "Jacobian determinant, expiration to inspiration", "VQ_JACOBIAN", "Jacobian"
    ),
    "ct_exp": MapKind("ct_exp.nii.gz", "[hnsf'U]", "Expiratory CT"),
    "ct_insp": MapKind("ct_insp_warped.nii.gz", "[hnsf'U]", "Inspiratory CT, warped to expiration"),
}  # fmt: skip


def maps_of(analysis: Analysis) -> Mapping[str, MapKind]:
    """Return `MAPS` with V named as it was made."""
    made = VENTILATIONS[analysis.parameters.ventilation]
    unit = MAPS["V"].unit if made.unit == "1" else made.unit
    return {**MAPS, "V": replace(MAPS["V"], unit=unit, meaning=f"Ventilation V = {made.formula}")}
