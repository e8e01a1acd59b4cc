"""Measures -> Basic Text SR (PS3.3 A.35.1, TID 2000) in words alone, for a PACS that shows no other report."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage

from analysis.anatomy.regions import REGIONS
from analysis.figures.report import method_in_words
from analysis.limits_of_use import LIMITS
from analysis.measures.table import measures_of
from analysis.pipeline.pipeline import Analysis

from . import codes
from .context import Case
from .kinds import Making

UNITS = {"1": "", "[hnsf'U]": " HU"}


def build(making: Making) -> Iterator[Dataset]:
    """Make the report as text."""
    yield build_text_report(making.analysis, making.case)


def build_text_report(analysis: Analysis, case: Case) -> Dataset:
    """Make the text report: a section for each region, then quality, method and limits."""
    ds = case.begin(analysis, "text sr", BasicTextSRStorage, "SR")
    ds.SeriesDescription = "V/Q report as text (research use only)"
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = []
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = [codes.item(codes.REPORT_TITLE)]
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2000"
    ds.ContentTemplateSequence = [template]
    quality = [f"{f.check}: {f.verdict.upper()}. {f.sentence}" for f in analysis.findings]
    ds.ContentSequence = [
        _language(),
        *(_section(REGIONS[region], _lines(analysis, region)) for region in analysis.measures),
        _section("Quality", quality),
        _section("Method", [method_in_words(analysis.parameters)]),
        _section("Limits of use", [LIMITS]),
    ]
    ds.CodingSchemeIdentificationSequence = [codes.scheme_item()]
    case.stamp(ds)
    return ds


def _lines(analysis: Analysis, region: str) -> list[str]:
    values = analysis.measures[region]
    return [
        f"{measure.meaning}: {values[name]:.4g}{UNITS.get(measure.unit, ' ' + measure.unit)}"
        for name, measure in measures_of(analysis.parameters.ventilation).items()
        if math.isfinite(values.get(name, math.nan))
    ]


def _language() -> Dataset:
    """Return the item that gives the language of the content (TID 1204)."""
    item = Dataset()
    item.RelationshipType, item.ValueType = "HAS CONCEPT MOD", "CODE"
    item.ConceptNameCodeSequence = [codes.item(codes.LANGUAGE)]
    item.ConceptCodeSequence = [codes.item(codes.ENGLISH)]
    return item


def _section(heading: str, lines: list[str]) -> Dataset:
    """Return a section under a heading of CID 7001; each text begins with the region or subject."""
    section, text = Dataset(), Dataset()
    section.RelationshipType = text.RelationshipType = "CONTAINS"
    section.ValueType, section.ContinuityOfContent = "CONTAINER", "SEPARATE"
    section.ConceptNameCodeSequence = [codes.item(codes.FINDINGS)]
    text.ValueType = "TEXT"
    text.ConceptNameCodeSequence = [codes.item(codes.FINDING_TEXT)]
    text.TextValue = "\n".join([heading, *lines])
    section.ContentSequence = [text]
    return section
