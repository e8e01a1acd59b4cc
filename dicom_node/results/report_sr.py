"""Measures of every region -> Comprehensive 3D SR, TID 1500 Measurement Report (PS3.16)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.coding import CodedConcept
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence

from analysis.anatomy.regions import REGIONS, WHOLE
from analysis.figures.captures import means_in_words
from analysis.figures.impression import impression
from analysis.limits_of_use import LIMITS
from analysis.measures.digits import carried, firm_text, sd_of, text_of
from analysis.measures.findings import Finding
from analysis.measures.shares import RESECTION_SOURCE
from analysis.measures.table import FIRM, measures_of
from analysis.pipeline.pipeline import Analysis

from ..dicom.part10 import MANUFACTURER
from . import codes
from .context import DEVICE_SERIAL, MODEL_NAME, Case
from .image_library import image_library
from .kinds import Making
from .seg import REGION_SEGMENT

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
    # TID 1500 has the library before the measurements and the evaluations after them. The template is extensible: the
    # conclusion goes before both, where a reader looks first.
    for item in (*_conclusion(analysis), image_library(case)):
        items.insert(len(items) - 1, item)
    items.append(_evaluations(analysis))
    _separate(content[0])
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
    """Make a region's group: TID 1411 where it is a segment, else TID 1501, whose source the Image Library names."""
    site = codes.SITES[name]
    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(case.uid(analysis, f"region {name}"), REGIONS[name]),
        "finding_type": codes.FINDING,
        "algorithm_id": _algorithm(analysis),
        "finding_sites": [FindingSite(site.structure, laterality=site.laterality)],
        "measurements": _measurements(analysis, name),
    }
    if name not in REGION_SEGMENT:
        return MeasurementsAndQualitativeEvaluations(**common)
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
            value=_carried(name, values, measure.unit),
            unit=codes.unit_code(measure.unit),
            derivation=codes.DERIVATIONS.get(name),
            method=codes.METHODS.get(name),
        )
        for name, measure in measures_of(analysis.parameters.ventilation).items()
        if math.isfinite(values.get(name, math.nan))
    ]


def _carried(name: str, values: Mapping[str, float], unit: str) -> float:
    """Return a number with the digits it carries: a fraction's by its uncertainty, the others' by their unit."""
    of = next((fraction for fraction in FIRM if name.startswith(f"{fraction}_")), name)
    return carried(values[name], unit, sd_of(values, of))


def _conclusion(analysis: Analysis) -> list[TextContentItem]:
    """Return the impression, a sentence an item, and what the words of the classes rest on."""
    name = codes.item(codes.CONCLUSION)
    words = means_in_words(analysis.parameters.low)
    told = [*impression(analysis), f"{words[0].upper()}{words[1:]}."]
    return [TextContentItem(name, text, RelationshipTypeValues.CONTAINS) for text in told]


def _separate(item: Dataset) -> None:
    """Say that the items of every container stand alone (PS3.3 C.18.8): viewers then show each with its name."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", []):
        _separate(child)


def _evaluations(analysis: Analysis) -> ContainerContentItem:
    """Return fractions, shares, quality checks and limits of use in words."""
    container = ContainerContentItem(
        name=CodedConcept.from_code(codes.QUALITATIVE_EVALUATIONS),
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    whole = [r for r in WHOLE if r in analysis.measures]
    told = [(codes.FINDING_TEXT, _fractions(analysis, r)) for r in whole]
    told += [(codes.FINDING_TEXT, _shares(analysis, r)) for r in whole[1:]]
    checks = [(codes.QUALITY_CHECK, _words(f)) for f in analysis.findings]
    texts = [*told, *checks, (codes.LIMITS, LIMITS)]
    items = [TextContentItem(codes.item(name), text, RelationshipTypeValues.CONTAINS) for name, text in texts]
    container.ContentSequence = DicomSequence(items)
    return container


def _fractions(analysis: Analysis, region: str) -> str:
    values = analysis.measures[region]
    parts = [f"{words.lower()} {firm_text(values, name, True)}" for name, words in FIRM.items()]
    return f"{REGIONS[region]}, {values['classified_volume']:.0f} mL classified: {', '.join(parts)}."


def _shares(analysis: Analysis, region: str) -> str:
    values = analysis.measures[region]
    names = {"volume": "share_volume", "ventilation V": "share_v", "perfusion surrogate Q": "share_q"}
    parts = [f"{text_of(values.get(name), '%')} % of the {words}" for words, name in names.items()]
    stays = f"predicted to stay after its removal {text_of(values.get('remaining_q'), '%')} % of Q"
    return f"{REGIONS[region]}: {', '.join(parts)}; {stays} ({RESECTION_SOURCE})."


def _words(finding: Finding) -> str:
    value = "" if finding.value is None else f" {finding.value:.4g} {finding.unit}"
    return f"{finding.check}: {finding.verdict.upper()}{value} ({finding.limit}). {finding.sentence}"
