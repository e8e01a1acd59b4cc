"""Patient Position (0018,5100), and words where it is absent -> how the patient lay: lungs differ between positions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .phase_names import plain

#: End of a defined term of Patient Position (PS3.3 C.7.3.1.1.2).
TERMS: Mapping[str, str] = {
    "S": "supine", "P": "prone", "DR": "decubitus right", "DL": "decubitus left",
}  # fmt: skip
#: Whole words, without accents, lower case; English, German, French, Spanish, Italian, Portuguese, Dutch, ...
WORDS: Mapping[str, frozenset[str]] = {
    "prone": frozenset({
        "prone", "prono", "prona", "pronos", "procubitus", "ventral", "bauchlage", "buikligging",
        "magleie", "bugleje", "vatsallaan",
    }),
    "supine": frozenset({
        "supine", "supino", "supina", "dorsal", "ruckenlage", "rugligging", "ryggleie",
        "rygleje",
    }),
}  # fmt: skip
#: Scripts without spaces.
ANYWHERE: Mapping[str, tuple[str, ...]] = {"prone": ("俯卧", "俯臥", "腹臥位"), "supine": ("仰卧", "仰臥")}
LATERAL = re.compile(r"decub|seitenlage|seitlage|zijligging|側臥|侧卧")
SIDES: Mapping[str, frozenset[str]] = {
    "decubitus right": frozenset(
        {"right", "rt", "rechts", "droit", "droite", "derecho", "destro", "direito"}
    ),
    "decubitus left": frozenset({"left", "lt", "links", "gauche", "izquierdo", "sinistro", "esquerdo"}),
}

#: Part of the finding's sentence where the words of a header contradict the code.
CONTRADICTED = "Patient Position (0018,5100) says"


def lie_of(position: str, texts: Sequence[str]) -> tuple[str, str]:
    """Return how the patient lay ("" if unknown), and a sentence where only words say it or words contradict it.

    Examples
    --------
    >>> lie_of("HFS", ["Thorax Insp"])
    ('supine', '')
    >>> lie_of("", ["Thorax Insp prone"])
    ('prone', "Patient Position (0018,5100) is absent; 'Thorax Insp prone' says prone.")
    """
    coded = TERMS.get(position.strip().upper()[2:], "")
    said, text = next(((lie, t) for t in texts if (lie := _said(t))), ("", ""))
    if coded:
        contradicts = said and not coded.startswith(said)
        return coded, f"{CONTRADICTED} {coded}, but '{text}' says {said}." if contradicts else ""
    return said, f"Patient Position (0018,5100) is absent; '{text}' says {said}." if said else ""


def differ(a: str, b: str) -> bool:
    """Return whether the patient was turned between two scans; an unusual position does not count as unknown."""
    return a != b and bool((a and b) or {a, b} - {"", "supine"})


def _said(text: str) -> str:
    words = set(re.findall(r"[^\W\d_]+", plain(text)))
    for lie, names in WORDS.items():
        if words & names or any(sign in text for sign in ANYWHERE[lie]):
            return lie
    if LATERAL.search(plain(text)) or LATERAL.search(text):
        return next((lie for lie, names in SIDES.items() if words & names), "decubitus")
    return ""
