"""A header -> Person: who the patient is, as digests that can be compared and not read."""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256

from pydicom import Dataset

from ..model import Person
from .values import text_of


def person_of(ds: Dataset) -> Person:
    """Digests of who the patient is: padding, the case of a name, accents and empty components do not count."""
    patient_id, issuer, birth_date = (
        digest_of(text_of(ds, k)) for k in ("PatientID", "IssuerOfPatientID", "PatientBirthDate")
    )
    return Person(patient_id, issuer, birth_date, digest_of(_plain_name(text_of(ds, "PatientName"))))


def digest_of(text: str) -> str:
    """Return the SHA-256 of a text without padding; "" for an empty one.

    Examples
    --------
    >>> digest_of(" A7 ") == digest_of("A7"), digest_of(" ")
    (True, '')
    """
    text = text.strip()
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""


def _plain_name(name: str) -> str:
    """Family and given name of the first component group that is there; "ae" for "ä" and the like are folded.

    Examples
    --------
    >>> _plain_name("MÜLLER^Hans^^Dr.") == _plain_name("Mueller^Hans ")
    True
    """
    group = next((g for g in name.split("=") if g.strip("^ ")), "")
    parts = [" ".join(part.split()) for part in group.split("^")[:2]]
    folded = unicodedata.normalize("NFKD", "^".join(parts).rstrip("^")).casefold()
    plain = "".join(c for c in folded if not unicodedata.combining(c))
    return re.sub("([aou])e", r"\1", plain)
