"""Two instances -> whether they are of one patient (pure; on digests, never on names)."""

from __future__ import annotations

from ..model import Person

#: Attributes that tell two people apart where both instances give them.
TELLING = (
    ("patient_id", "Patient ID (0010,0020)"),
    ("issuer", "Issuer of Patient ID (0010,0021)"),
    ("birth_date", "Patient's Birth Date (0010,0030)"),
    ("name", "Patient's Name (0010,0010)"),
)


def two_people(a: Person, b: Person, *, one_study: bool = True) -> str:
    """Return which attribute shows that two instances are not of one patient; "" where none does.

    Issuers can give one ID to two people, and mistakes happen: every attribute that both instances give
    must agree. Without an ID on both sides the names must be given; without these too, the study alone says it.

    Examples
    --------
    >>> two_people(Person("1"), Person("2"))
    'Patient ID (0010,0020) differs'
    >>> two_people(Person("1", name="a"), Person("", name="a"))
    ''
    """
    for field, attribute in TELLING:
        own, other = getattr(a, field), getattr(b, field)
        if own and other and own != other:
            return f"{attribute} differs"
    if a.patient_id and b.patient_id:
        return ""
    if a.name and b.name:
        return ""
    if one_study and not (a.patient_id or b.patient_id or a.name or b.name):
        return ""  # both were removed when the study was made anonymous
    return "Patient ID (0010,0020) and Patient's Name (0010,0010) do not say that it is one patient"
