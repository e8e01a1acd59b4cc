"""Measures of every region -> Comprehensive 3D SR, TID 1500 Measurement Report (PS3.16)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TypeAlias

from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    ContainerContentItem,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.coding import CodedConcept
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence

from analysis.anatomy.regions import REGIONS, WHOLE
from analysis.figures.colours import CLASS_NAME
from analysis.limits_of_use import LIMITS
from analysis.measures.findings import Finding
from analysis.measures.table import measures_of
from analysis.pipeline.pipeline import Analysis

from ..dicom.part10 import MANUFACTURER
from . import codes
from .context import DEVICE_SERIAL, MODEL_NAME, Case
from .image_library import image_library
from .kinds import Making
from .seg import REGION_SEGMENT

#: Significant digits of a number: more than any measure is accurate to, but few enough to read.
DIGITS = 6

Group: TypeAlias = VolumetricROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations


def build(making: Making) -> Iterator[Dataset]:
    """Make the Structured Report."""
    (segmentation,) = making.referenced["sr"]
    yield build_report(making.analysis, making.case, segmentation)


def build_report(analysis: Analysis, case: Case, segmentation: Dataset) -> Comprehensive3DSR:
    """Make the report: a measurement group for each region, with every measure that the analysis has of it.

    Parameters
    ----------
    analysis : Analysis
    case : Case
    segmentation : Dataset
        The Segmentation of the same analysis; groups of a whole lung reference its segment.

    Returns
    -------
    Comprehensive3DSR
        Explicit VR Little Endian.
    """
    sources = [*case.expiratory, *case.inspiratory]
    content = MeasurementReport(
        observation_context=_observer(analysis, case),
        procedure_reported=codes.CT_OF_CHEST,
        imaging_measurements=[_group(name, analysis, case, segmentation) for name in analysis.measures],
        title=codes.REPORT_TITLE,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            codes.item(codes.ENGLISH)
        ),
    )
    items = content[0].ContentSequence
    # TID 1500 has the library before the measurements and the evaluations after them.
    items.insert(len(items) - 1, image_library(case))
    items.append(_evaluations(analysis))
    ds = Comprehensive3DSR(
        evidence=[*sources, segmentation],
        content=content[0],
        **case.series_of(analysis, "sr"),
        is_complete=True,
        series_description="V/Q report SR (research use only)",
        coding_schemes=[codes.scheme_item()],
    )
    case.stamp(ds)
    return ds


def _observer(analysis: Analysis, case: Case) -> ObservationContext:
    attributes = DeviceObserverIdentifyingAttributes(
        uid=case.uid(analysis, "device"),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=DEVICE_SERIAL,
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.item(codes.DEVICE), attributes))


def _group(name: str, analysis: Analysis, case: Case, segmentation: Dataset) -> Group:
    """Make a region's group: TID 1411 where it is a segment, else TID 1501 with the expiratory CT as source."""
    site = codes.SITES[name]
    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(case.uid(analysis, f"region {name}"), REGIONS[name]),
        "finding_type": codes.FINDING,
        "algorithm_id": _algorithm(analysis),
        "finding_sites": [FindingSite(site.structure, laterality=site.laterality)],
        "measurements": _measurements(analysis, name),
    }
    if name not in REGION_SEGMENT:
        middle = case.expiratory[len(case.expiratory) // 2]
        images = [SourceImageForMeasurementGroup.from_source_image(middle)]
        return MeasurementsAndQualitativeEvaluations(**common, source_images=images)
    segment = ReferencedSegment(
        sop_class_uid=segmentation.SOPClassUID,
        sop_instance_uid=segmentation.SOPInstanceUID,
        segment_number=REGION_SEGMENT[name],
        source_series=SourceSeriesForSegmentation(case.pair.expiratory.series_instance_uid),
    )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(**common, referenced_segment=segment)


def _algorithm(analysis: Analysis) -> AlgorithmIdentification:
    """Return the algorithm's name, version and every parameter (TID 4019)."""
    parameters = [f"{name}={value}" for name, value in sorted(asdict(analysis.parameters).items())]
    return AlgorithmIdentification(MODEL_NAME, analysis.version, parameters)


def _measurements(analysis: Analysis, region: str) -> list[Measurement]:
    """Return a region's numbers; missing ones (an empty region) are left out, for readers fail on empty values."""
    values = analysis.measures.get(region, {})
    return [
        Measurement(
            name=codes.measure_code(name, measure.meaning),
            value=float(f"{values[name]:.{DIGITS}g}"),
            unit=codes.unit_code(measure.unit),
            derivation=codes.DERIVATIONS.get(name),
            method=codes.METHODS.get(name),
        )
        for name, measure in measures_of(analysis.parameters.ventilation).items()
        if math.isfinite(values.get(name, math.nan))
    ]


def _evaluations(analysis: Analysis) -> ContainerContentItem:
    """Return limits of use, fractions and quality checks in words: some viewers show numbers without names."""
    container = ContainerContentItem(
        name=CodedConcept.from_code(codes.QUALITATIVE_EVALUATIONS),
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    fractions = [(codes.FINDING_TEXT, _fractions(analysis, r)) for r in WHOLE if r in analysis.measures]
    checks = [(codes.QUALITY_CHECK, _words(f)) for f in analysis.findings]
    texts = [(codes.LIMITS, LIMITS), *fractions, *checks]
    items = [TextContentItem(codes.item(name), text, RelationshipTypeValues.CONTAINS) for name, text in texts]
    container.ContentSequence = DicomSequence(items)
    return container


def _fractions(analysis: Analysis, region: str) -> str:
    values = analysis.measures[region]
    parts = [f"{CLASS_NAME[c].lower()} {values[c.name.lower()]:.1f} %" for c in CLASS_NAME]
    classified = f"{REGIONS[region]}, {values['classified_volume']:.0f} mL classified"
    return f"{classified}: {', '.join(parts)}; total abnormal {values['total_abnormal']:.1f} %."


def _words(finding: Finding) -> str:
    value = "" if finding.value is None else f" {finding.value:.4g} {finding.unit}"
    return f"{finding.check}: {finding.verdict.upper()}{value} ({finding.limit}). {finding.sentence}"
