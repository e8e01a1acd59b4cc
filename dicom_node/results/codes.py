"""Every code the objects use: one table a kind; what has no standard code is in the private scheme 99VQ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr.coding import CodedConcept
from pydicom.sr.coding import Code

from analysis.measures.table import FIRM, FIRMNESS, MEASURES
from analysis.vq.classes import VQClass

PRIVATE_SCHEME = "99VQ"


def private(value: str, meaning: str) -> Code:
    """Return a code of our own scheme."""
    return Code(value, PRIVATE_SCHEME, meaning)


def item(code: Code) -> CodedConcept:
    """Return a code as an item of a code sequence."""
    return CodedConcept.from_code(code)


def scheme_item() -> CodingSchemeIdentificationItem:
    """Describe the private scheme (PS3.3 C.12.1, Coding Scheme Identification Sequence)."""
    return CodingSchemeIdentificationItem(
        designator=PRIVATE_SCHEME,
        name="vq-dicom-node lung ventilation/perfusion codes",
        version="1",
        responsible_organization="vq-dicom-node",
    )


LUNG = Code("39607008", "SCT", "Lung")
RIGHT = Code("24028007", "SCT", "Right")
LEFT = Code("7771000", "SCT", "Left")
BILATERAL = Code("51440002", "SCT", "Right and left")
UPPER_ZONE = Code("281392002", "SCT", "Upper zone of lung")
MIDDLE_ZONE = Code("281393007", "SCT", "Middle zone of lung")
LOWER_ZONE = Code("281394001", "SCT", "Lower zone of lung")
UPPER_LOBE = Code("45653009", "SCT", "Upper lobe of lung")
MIDDLE_LOBE = Code("72481006", "SCT", "Middle lobe of right lung")
LOWER_LOBE = Code("90572001", "SCT", "Lower lobe of lung")

ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")

INSPIRATION = Code("14910006", "SCT", "Inspiration")
EXPIRATION = Code("58322009", "SCT", "Expiration")
RESPIRATORY_PHASE = private("PHASE", "Respiratory phase")
SOURCE = Code("260753009", "SCT", "Source")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
#: Image Position (Patient) X, Y, Z: what differs between the slices of a series.
SLICE_DESCRIPTORS = frozenset({"110901", "110902", "110903"})

DEVICE = Code("121007", "DCM", "Device")
CT_OF_CHEST = Code("169069000", "SCT", "Computed tomography of chest")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
ENGLISH = Code("en", "RFC5646", "English")
LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
FINDINGS = Code("121070", "DCM", "Findings")
FINDING_TEXT = Code("121071", "DCM", "Finding")
CONCLUSION = Code("121077", "DCM", "Conclusion")
SERIES = Code("112002", "DCM", "Series Instance UID")
OF_INTEREST = Code("113000", "DCM", "Of Interest")
SOURCE_FOR_PROCESSING = Code("121322", "DCM", "Source image for image processing operation")

#: The titles of CID 7021 (extensible) fit no CT ventilation/perfusion report; OHIF 3.13 shows a blank pane
#: for "Imaging Measurement Report" (126000) without coordinates, but the text of any other.
REPORT_TITLE = private("VQ_REPORT", "CT lung ventilation/perfusion report")
FINDING = private("VQ", "Regional lung ventilation/perfusion")
QUALITY_CHECK = private("QUALITY", "Quality check")
LIMITS = private("LIMITS", "Limits of use")
ALGORITHM_FAMILY = private("REG_VQ", "Deformable registration of paired CT")

#: Class -> property type of its segment; ventilation, dead space and shunt have no standard code.
CLASS_CODES: Mapping[VQClass, Code] = {
    VQClass.NORMAL: private("NORMAL_LUNG", "Ventilation and perfusion preserved"),
    VQClass.DEAD_SPACE: private("DEAD_SPACE_LUNG", "Dead space (low perfusion)"),
    VQClass.SHUNT: private("SHUNT_LUNG", "Shunt (low ventilation)"),
    VQClass.MATCHED_DEFECT: private("MATCHED_LUNG", "Matched ventilation/perfusion defect"),
}


#: Map of `analysis.pipeline.pipeline.Analysis.maps` -> what its values are.
MAP_QUANTITIES: Mapping[str, Code] = {
    "V": private("V", "Ventilation V"),
    "Q": private("Q", "Perfusion surrogate Q"),
    "m": private("M", "Signed apparent mass change"),
    "V/Q": private("VQ_RATIO", "Normalised V/Q ratio"),
    "jacobian": private("JACOBIAN", "Jacobian determinant of the displacement"),
}


@dataclass(frozen=True)
class Site:
    """Hold where a region is: an anatomical structure and its side."""

    structure: Code
    laterality: Code


#: Name of a region of `analysis.anatomy.regions.REGIONS` -> where it is.
SITES: Mapping[str, Site] = {
    "lungs": Site(LUNG, BILATERAL),
    "right": Site(LUNG, RIGHT),
    "left": Site(LUNG, LEFT),
    "right_upper": Site(UPPER_ZONE, RIGHT),
    "right_middle": Site(MIDDLE_ZONE, RIGHT),
    "right_lower": Site(LOWER_ZONE, RIGHT),
    "left_upper": Site(UPPER_ZONE, LEFT),
    "left_middle": Site(MIDDLE_ZONE, LEFT),
    "left_lower": Site(LOWER_ZONE, LEFT),
    "right_upper_lobe": Site(UPPER_LOBE, RIGHT),
    "right_middle_lobe": Site(MIDDLE_LOBE, RIGHT),
    "right_lower_lobe": Site(LOWER_LOBE, RIGHT),
    "left_upper_lobe": Site(UPPER_LOBE, LEFT),
    "left_lower_lobe": Site(LOWER_LOBE, LEFT),
}

#: UCUM code -> its meaning (pydicom's table lacks some of these).
UNITS: Mapping[str, Code] = {
    "1": Code("1", "UCUM", "no units"),
    "%": Code("%", "UCUM", "percent"),
    "ml": Code("ml", "UCUM", "milliliter"),
    "g": Code("g", "UCUM", "gram"),
    "ml/ml": Code("ml/ml", "UCUM", "milliliter per milliliter"),
    "g/ml": Code("g/ml", "UCUM", "gram per milliliter"),
    "ml/g": Code("ml/g", "UCUM", "milliliter per gram"),
    "mm": Code("mm", "UCUM", "millimeter"),
    "[hnsf'U]": Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
}

VOLUME = Code("118565006", "SCT", "Volume")
VOXEL_SUM = Code("126030", "DCM", "Sum of segmented voxel method for volume")
MEAN = Code("373098007", "SCT", "Mean")
DEVIATION = Code("386136009", "SCT", "Standard deviation")
MEDIAN = Code("373099004", "SCT", "Median")
VARIATION = Code("C0681921", "UMLS", "Coefficient of Variance")

#: Measures with a standard concept: the segment a group references is on the expiratory CT, as its volume.
STANDARD_MEASURES: Mapping[str, Code] = {"volume_exp": VOLUME}

TOTAL = Code("255619001", "SCT", "Total")
#: Concepts for which CID 7464 has no code.
FRACTION = private("FRACTION", "Fraction of volume")
RATIO = private("RATIO", "Ratio of two phases")
IQR_BY_MEAN = private("IQR_BY_MEAN", "Interquartile range divided by mean")
PERCENTILE_15 = private("PERCENTILE_15", "15th percentile")

#: What a region contributes to both lungs, and what stays without it.
SHARES = ("share_volume", "share_v", "share_q", "remaining_v", "remaining_q")
#: Measure -> how its one number is derived from many (TID 300, Derivation).
DERIVATIONS: Mapping[str, Code] = {
    **dict.fromkeys(("mean_v", "mean_q", "mean_m", "mld_exp", "mld_insp"), MEAN),
    **dict.fromkeys(("cv_v", "cv_q"), VARIATION),
    **dict.fromkeys(("h_v", "h_q"), IQR_BY_MEAN),
    **dict.fromkeys(("classified_volume", "volume_exp", "volume_insp", "mass_exp", "mass_insp"), TOTAL),
    **dict.fromkeys(("volume_ratio", "mass_ratio", "mld_ratio"), RATIO),
    **dict.fromkeys(
        ("normal", "dead_space", "shunt", "matched_defect", "total_abnormal", "excluded"), FRACTION
    ),
    **dict.fromkeys(("vdp", "qdp", "laa950", "laa856"), FRACTION),
    **dict.fromkeys(("prm_emphysema", "prm_fsad", "prm_normal", "prm_unclassified"), FRACTION),
    **dict.fromkeys(FIRMNESS, FRACTION),
    **dict.fromkeys(SHARES, FRACTION),
    **dict.fromkeys((f"{name}_sd" for name in FIRM), DEVIATION),
    **dict.fromkeys(("v_hu", "v_hu_corrected", "v_mcvc", "delta_svg"), MEAN),
    "tidal_gas": TOTAL,
    "median_vq": MEDIAN,
    "perc15": PERCENTILE_15,
}
#: Measure -> what is computed (TID 300, Measurement Method).
METHODS: Mapping[str, Code] = {
    **dict.fromkeys(
        ("volume_exp", "volume_insp", "volume_ratio", "classified_volume", "excluded"), VOXEL_SUM
    ),
    **dict.fromkeys(
        ("normal", "dead_space", "shunt", "matched_defect", "total_abnormal"),
        private("LOW_V_LOW_Q", "Classes by thresholds on normalised V and Q"),
    ),
    **dict.fromkeys(
        ("mass_exp", "mass_insp", "mass_ratio"),
        private("DENSITY_SUM", "Sum of densities (HU + 1000)/1000 g/ml"),
    ),
    **dict.fromkeys(
        ("mean_v", "cv_v", "h_v", "vdp"), private("V_METHOD", "Local ventilation from registered paired CT")
    ),
    **dict.fromkeys(
        ("mean_q", "mean_m", "cv_q", "h_q", "qdp"),
        private("MASS_CHANGE", "Local mean of mass change (Castillo 2021)"),
    ),
    **dict.fromkeys(
        ("mld_exp", "mld_insp", "mld_ratio", "laa950", "laa856", "perc15"),
        private("HU_HISTOGRAM", "HU histogram of parenchyma (HU <= -250)"),
    ),
    **dict.fromkeys(
        ("prm_emphysema", "prm_fsad", "prm_normal", "prm_unclassified"),
        private("PRM", "Parametric response map (Galban 2012)"),
    ),
    **dict.fromkeys(
        FIRMNESS, private("LOW_V_LOW_Q_AT", "Classes at another threshold of normalised V and Q")
    ),
    **dict.fromkeys(
        (f"{name}_sd" for name in FIRM),
        private("ERROR_SD", "Change under errors of registration, density, blur and level"),
    ),
    **dict.fromkeys(
        (f"{name}_borderline" for name in FIRM),
        private("BORDERLINE", "V or Q within one standard uncertainty of the threshold"),
    ),
    **dict.fromkeys(
        ("v_hu", "v_hu_corrected", "v_mcvc", "delta_svg"),
        private("REGION_HU", "Ventilation from the region's mean HU"),
    ),
    "share_volume": VOXEL_SUM,
    **dict.fromkeys(
        ("share_v", "share_q"), private("MEAN_BY_VOLUME", "Mean times classified volume, of both lungs")
    ),
    **dict.fromkeys(
        ("remaining_v", "remaining_q"),
        private("RESECTION", "1 less the share of what is removed (Bria 1983)"),
    ),
    "tidal_gas": private("GAS_SUM", "Sum of gas shares -HU/1000"),
    "median_vq": private("V_BY_Q", "Ratio of V and Q, each divided by its mean"),
}


def measure_code(name: str, meaning: str = "") -> Code:
    """Return the concept of a measure of `analysis.measures.table.MEASURES`; ``meaning`` replaces its usual words."""
    return STANDARD_MEASURES.get(name) or private(name.upper()[:16], (meaning or MEASURES[name].meaning)[:64])


def unit_code(unit: str) -> Code:
    """Return the code of a UCUM unit; a unit missing from the table is its own meaning."""
    return UNITS.get(unit) or Code(unit, "UCUM", unit)
