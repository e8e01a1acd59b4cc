"""A header -> the patient's age at the study."""

from __future__ import annotations

import re
from datetime import datetime

from pydicom import Dataset


def years_of_age(ds: Dataset) -> float | None:
    """Return the patient's age in years: at the study by the birth date, or as Patient's Age (0010,1010) says.

    Examples
    --------
    >>> ds = Dataset()
    >>> ds.PatientAge = "063Y"
    >>> years_of_age(ds)
    63.0
    """
    try:
        born, then = (
            datetime.strptime(str(ds.get(k) or "")[:8], "%Y%m%d") for k in ("PatientBirthDate", "StudyDate")
        )
        return (then - born).days / 365.25
    except ValueError:
        said = re.fullmatch(r"(\d{3})Y", str(ds.get("PatientAge") or ""))
        return float(said[1]) if said else None
