"""A header -> Person: who the patient is, as digests that can be compared and not read."""

from __future__ import annotations

import re
import unicodedata
from datetime import date

from pydicom import Dataset

from ..model import Person, digest_of
from .values import text_of

#: What consoles and anonymisers write where there is no ID, without spaces and punctuation.
NO_ID = frozenset({
    "", "unknown", "anonymous", "anonymized", "anonymised", "anon", "none", "null", "nil", "na", "noid", "notsupplied",
    "unbekannt", "inconnu", "desconocido", "sconosciuto", "desconhecido", "onbekend", "deidentified", "0", "00", "000",
})  # fmt: skip


def person_of(ds: Dataset) -> Person:
    """Digests of who the patient is: padding, the case of a name, accents and empty components do not count."""
    patient_id, issuer, birth_date = (
        digest_of(plain(text_of(ds, k)))
        for k, plain in (
            ("PatientID", _plain_id),
            ("IssuerOfPatientID", _plain_id),
            ("PatientBirthDate", _plain_date),
        )
    )
    return Person(patient_id, issuer, birth_date, digest_of(_plain_name(text_of(ds, "PatientName"))))


def _plain_id(text: str) -> str:
    """Return an ID without padding; "" for a word that stands for none, which many patients may share.

    Examples
    --------
    >>> _plain_id(" 0012 "), _plain_id("Unknown")
    ('0012', '')
    """
    plain = text.strip()
    return "" if re.sub(r"[\W_]+", "", plain).casefold() in NO_ID else plain


def _plain_date(text: str) -> str:
    """Return a birth date as eight digits; "" for what is not a date, which says nothing of who the patient is.

    Examples
    --------
    >>> _plain_date("1950.01.02"), _plain_date("00/00/0000")
    ('19500102', '')
    """
    digits = re.sub(r"(?<=\d)[./-](?=\d)", "", text.strip())
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return ""
    return digits


def _plain_name(name: str) -> str:
    """Family and given name of the first component group that is there, however they are parted; "ae" is folded to "a".

    Examples
    --------
    >>> _plain_name("MÜLLER^Hans^^Dr.") == _plain_name("Mueller^Hans ")
    True
    >>> _plain_name("DOE JANE") == _plain_name("Doe^Jane")
    True
    """
    group = next((g for g in name.split("=") if g.strip("^ ")), "")
    parts = re.split(r"[\s,^]+", "^".join(group.split("^")[:2]))
    folded = unicodedata.normalize("NFKD", " ".join(part for part in parts if part)).casefold()
    plain = "".join(c for c in folded if not unicodedata.combining(c))
    return re.sub("([aou])e", r"\1", plain)
