"""Codes, percentages and words of headers -> inspiration, expiration or neither, and why."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from ..model import PairingRules, Phase

CODES: dict[str, Phase] = {"14910006": "inspiration", "58322009": "expiration"}

#: Percent of the breathing cycle after the maximum of inspiration (0020,9245), within ± 5.
PERCENT: tuple[tuple[float, Phase], ...] = ((0, "inspiration"), (100, "inspiration"), (50, "expiration"))

#: What the texts of a header are called, in the order of their weight.
TEXTS = ("SeriesDescription", "ProtocolName", "ImageComments", "ImageType")

#: Whole words, without accents, lower case.
WORDS: dict[Phase, frozenset[str]] = {
    "inspiration": frozenset({
        "insp", "ins", "inspi", "inhale", "inhalation", "inh", "tlc", "ibhct", "ei", "einatmung",
        "eingeatmet",
        "inademing", "inandning", "indanding", "innanding", "wdech", "nadech", "belegzes", "вдох",
    }),
    "expiration": frozenset({
        "exp", "exps", "exsp", "exspi", "expi", "exhale", "exhalation", "exh", "rv", "frc", "ebhct", "ee",
        "ausatmung", "ausgeatmet", "uitademing", "utandning", "udanding", "utanding", "wydech", "vydech",
        "kilegzes", "выдох",
    }),
}  # fmt: skip
#: Beginnings of words in the Latin languages, German, Dutch, Czech, Polish, …
STEMS: dict[Phase, tuple[str, ...]] = {
    "inspiration": ("inspir",),
    "expiration": ("expir", "exspir", "espir"),
}
#: Scripts without spaces between words: found anywhere.
ANYWHERE: dict[Phase, tuple[str, ...]] = {
    "inspiration": ("吸气", "吸氣", "吸気", "흡기"),
    "expiration": ("呼气", "呼氣", "呼気", "호기"),
}
#: Prepositions in many languages: believed only where nothing else is said, and only as labels (`_labels`).
WEAK: dict[Phase, frozenset[str]] = {
    "inspiration": frozenset({"in"}),
    "expiration": frozenset({"ex", "out", "aus"}),
}


def phase_of(
    code: str, percent: float | None, texts: Sequence[str], rules: PairingRules
) -> tuple[Phase | None, str]:
    """The phase some headers claim, by the strongest evidence they have.

    In this order: Acquisition Context code (0040,0555); Nominal Percentage of Respiratory Phase (0020,9245);
    the first of the texts that names a phase. One that names both is ambiguous; weaker ones are not asked.

    Parameters
    ----------
    code : str
        `Header.phase_code`.
    percent : float or None
        `Header.phase_percent`.
    texts : sequence of str
        `Header.texts`, in the order of `TEXTS`.
    rules : PairingRules
        The site's own words.

    Returns
    -------
    phase : {"inspiration", "expiration"} or None
    evidence : str
        What said so, or why nothing does.

    Examples
    --------
    >>> phase_of("", None, ["Thorax Insp 2.0 B70f"], PairingRules())
    ('inspiration', "SeriesDescription 'Thorax Insp 2.0 B70f'")
    >>> phase_of("", None, ["RespLow 2.0 B30s 80 Ex - 100 In"], PairingRules())
    (None, "SeriesDescription 'RespLow 2.0 B30s 80 Ex - 100 In' names both phases")
    """
    if code in CODES:
        return CODES[code], f"acquisition context code {code}"
    if percent is not None:
        for centre, phase in PERCENT:
            if abs(percent - centre) <= 5:
                return phase, f"respiratory phase {percent:g} %"
        return None, f"respiratory phase {percent:g} % is neither end of the breath"
    for name, text in zip(TEXTS, texts, strict=False):
        phases = phases_named(text, rules)
        if len(phases) > 1:
            return None, f"{name} '{text}' names both phases"
        if phases:
            return phases.pop(), f"{name} '{text}'"
    return None, "no code, percentage or text names a phase"


def phases_named(text: str, rules: PairingRules) -> set[Phase]:
    """The phases a text names.

    Examples
    --------
    >>> phases_named("EXP_STD_CHU_COPD", PairingRules())
    {'expiration'}
    >>> phases_named("CT Thorax in 2 mm", PairingRules())
    set()
    """
    site: dict[Phase, set[str]] = {
        "inspiration": {plain(w) for w in rules.inspiration_words},
        "expiration": {plain(w) for w in rules.expiration_words},
    }
    words = _words(text)
    phases: tuple[Phase, ...] = ("inspiration", "expiration")
    strong = {
        phase
        for phase in phases
        if any(w in WORDS[phase] | site[phase] or w.startswith(STEMS[phase]) for w in words)
        or any(sign in text for sign in ANYWHERE[phase])
    }
    labels = _labels(text)
    return strong or {phase for phase in phases if labels & WEAK[phase]}


def plain(text: str) -> str:
    """Lower case, without accents."""
    folded = unicodedata.normalize("NFKD", text).casefold().replace("ø", "o").replace("ł", "l")
    return "".join(c for c in folded if not unicodedata.combining(c))


def _words(text: str) -> set[str]:
    """Runs of letters; also the parts of a run in camel case ("ThoraxInsp"), beside the whole ("iBHCT")."""
    runs = re.findall(r"[^\W\d_]+", text)
    parts = [p for run in runs for p in re.findall(r"[A-Z]?[^\WA-Z\d_]+|[A-Z]+(?![a-z])", run)]
    # An accent is dropped after the split, so that "Inspiración" stays one run.
    return {plain(w) for w in (*runs, *parts)}


def _labels(text: str) -> set[str]:
    """Weak words used as labels: the last one, or beside a number; not a preposition before a noun."""
    tokens = re.findall(r"[^\W\d_]+|\d+(?:[.,]\d+)?", text)
    found = set()
    for n, token in enumerate(tokens):
        capital = token[:1].isupper()
        after_number = n > 0 and tokens[n - 1][0].isdigit()
        before_number = n + 1 < len(tokens) and tokens[n + 1][0].isdigit()
        if n + 1 == len(tokens) or after_number or (capital and before_number):
            found.add(plain(token))
    return found
