"""The report -> Encapsulated PDF (PS3.3 A.45.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from analysis.figures.report import TITLE, Facts, report_pdf
from analysis.measures.reference import Person
from analysis.pipeline.pipeline import Analysis

from ..dicom.age import years_of_age
from ..model import ACQUISITION, Series
from . import codes
from .context import Case, printed_date, printed_name
from .kinds import Making


def build(making: Making) -> Iterator[Dataset]:
    """Make the report as PDF."""
    yield build_pdf(making.analysis, making.case)


def build_pdf(analysis: Analysis, case: Case) -> Dataset:
    """Make the PDF report: pictures and fractions, then numbers, quality, method and limits."""
    document = report_pdf(analysis, _facts(case), case.local, case.trend, case.style)
    ds = case.begin(analysis, "pdf", EncapsulatedPDFStorage, "DOC")
    ds.SeriesDescription = "V/Q report PDF (research use only)"
    ds.ConversionType = "WSD"
    ds.BurnedInAnnotation = "YES"
    ds.AcquisitionDateTime = ""
    ds.DocumentTitle = TITLE
    ds.ConceptNameCodeSequence = [codes.item(codes.REPORT_TITLE)]
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(document)
    ds.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    ds.CodingSchemeIdentificationSequence = [codes.scheme_item()]
    case.stamp(ds)
    return ds


def _facts(case: Case) -> Facts:
    """Return patient, dates, institution and technique; what the images do not say stays empty."""
    exp, insp = case.expiratory[0], case.inspiratory[0]
    age = years_of_age(exp)
    who = [
        ("Patient", printed_name(exp.PatientName)[:36]),
        ("Patient ID", str(exp.PatientID or "")[:36]),
        ("Study date", printed_date(exp.StudyDate)),
        ("Born", printed_date(exp.PatientBirthDate) + (f" ({age:.0f} years)" if age is not None else "")),
        ("Sex, height", ", ".join(part for part in (str(exp.PatientSex or ""), _height(exp)) if part)),
        ("Accession", str(exp.AccessionNumber or "")[:36]),
        ("Institution", str(exp.get("InstitutionName") or "")[:36]),
        ("Referrer", printed_name(exp.get("ReferringPhysicianName"))[:36]),
        ("Scanner", f"{exp.get('Manufacturer') or ''} {exp.get('ManufacturerModelName') or ''}".strip()[:36]),
    ]
    phases = (("Inspiration", insp, case.pair.inspiratory), ("Expiration", exp, case.pair.expiratory))
    scan = [(phase, _technique(ds, series)) for phase, ds, series in phases]
    return Facts(who, scan, Person(str(exp.PatientSex or ""), age, _number(exp, "PatientSize")))


def _technique(ds: Dataset, series: Series) -> tuple[str, ...]:
    kvp, dose = (_number(ds, keyword) for keyword in ("KVP", "CTDIvol"))
    at = series.acquired
    time = f" {at[8:10]}:{at[10:12]}" if len(at) >= 12 else ""
    kernel = series.slices[0].acquisition[ACQUISITION.index("kernel")]
    return (
        str(ds.get("SeriesDescription") or "")[:34],
        printed_date(at[:8]) + time,
        "" if kvp is None else f"{kvp:g}",
        kernel[:14],
        f"{series.gap:.2f} mm",
        "" if dose is None else f"{dose:.2f} mGy",
    )


def _number(ds: Dataset, keyword: str) -> float | None:
    """Return the number of an attribute; None where it is absent, empty or none."""
    try:
        value = float(ds.get(keyword))
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _height(ds: Dataset) -> str:
    height = _number(ds, "PatientSize")
    return "" if height is None else f"{height:.2f} m"
