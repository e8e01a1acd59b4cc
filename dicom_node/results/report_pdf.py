"""The report of two pages -> Encapsulated PDF (PS3.3 A.45.1)."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from analysis.figures.report import TITLE, report_pdf
from analysis.pipeline.pipeline import Analysis

from . import codes
from .context import Case
from .kinds import Making


def build(making: Making) -> Iterator[Dataset]:
    """Make the report as PDF."""
    yield build_pdf(making.analysis, making.case)


def build_pdf(analysis: Analysis, case: Case) -> Dataset:
    """Make the PDF report: pictures and fractions, then numbers, quality, method and limits."""
    document = report_pdf(analysis, _header(case), case.local, case.trend)
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


def _header(case: Case) -> list[tuple[str, str]]:
    """Return patient, dates and sources; of a name in several scripts the first, for fonts lack ideographs."""
    exp, insp = case.expiratory[0], case.inspiratory[0]
    name = exp.PatientName
    family, given = (str(part) for part in (name.family_name, name.given_name)) if name else ("", "")
    return [
        ("Patient", ", ".join(part for part in (family, given) if part)),
        ("Patient ID", str(exp.PatientID)),
        ("Born", _date(exp.PatientBirthDate)),
        ("Sex", str(exp.PatientSex)),
        ("Study date", _date(exp.StudyDate)),
        ("Accession", str(exp.AccessionNumber)),
        ("Expiration", str(exp.get("SeriesDescription", ""))[:40]),
        ("Inspiration", str(insp.get("SeriesDescription", ""))[:40]),
    ]


def _date(value: object) -> str:
    digits = str(value)
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}" if len(digits) == 8 else digits
