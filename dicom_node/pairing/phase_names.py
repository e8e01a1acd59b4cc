"""Codes, percentages and words of headers -> inspiration, expiration or neither, and why."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from ..model import TEXTS, PairingRules, Phase

CODES: dict[str, Phase] = {"14910006": "inspiration", "58322009": "expiration"}

#: Tolerance (±) of Nominal Percentage of Respiratory Phase (0020,9245), counted from the maximum of inspiration.
PERCENT_WIDTH = 5
PERCENT: tuple[tuple[float, Phase], ...] = ((0, "inspiration"), (100, "inspiration"), (50, "expiration"))


#: Whole words, without accents, lower case: what consoles and studies abbreviate, and words that no stem covers.
WORDS: dict[Phase, frozenset[str]] = {
    "inspiration": frozenset({
        "insp", "ins", "inspi", "inh", "tlc", "ibhct", "ei", "eoi", "innondun", "vdoh", "vdokh", "دم",
    }),
    "expiration": frozenset({
        "exp", "exps", "exsp", "exspi", "expi", "exs", "eksp", "exh", "frc", "ebhct", "ee", "eoe", "utondun", "vydoh",
        "vydokh", "بازدم",
    }),
}  # fmt: skip
#: Beginnings of words, without accents, lower case: languages inflect the rest ("na wdechu", "Einatmungsphase").
STEMS: dict[Phase, tuple[str, ...]] = {
    "inspiration": (
        "inspir", "инспир", "inhal", "inala",  # English, German, the Latin and Slavic languages, Turkish, ...
        "einatm", "eingeatm", "inadem", "ingeadem",  # German, Dutch
        "inand", "innand", "indand", "innpust",  # Swedish, Norwegian, Danish
        "wdech", "nadech", "nadych", "vdech", "vdych", "udah", "udisa", "vdih",  # Slavic, in Latin letters
        "вдох", "вдих", "вдыха", "вдиш", "удах",  # Slavic, in Cyrillic letters
        "belegz", "belelegz", "sisaanh", "sissehing",  # Hungarian, Finnish, Estonian
        "ikvep", "ieelp", "eispn", "εισπν",  # Lithuanian, Latvian, Greek
    ),
    "expiration": (
        "expir", "exspir", "espir", "ekspir", "eksspir", "экспир", "exhal", "esala",
        "ausatm", "ausgeatm", "uitadem", "uitgeadem",
        "utand", "udand", "utpust",
        "wydech", "vydech", "vydych", "izdah", "izdisa", "izdih",
        "выдох", "выдых", "видих", "издиш", "издах",
        "kilegz", "uloshen", "valjahing",
        "iskvep", "izelp", "ekpn", "εκπν",
    ),
}  # fmt: skip
#: Beginnings of words that are no expiration: Spanish and Portuguese call the spiral of a helical scan so.
OTHER_STEMS = ("espiral",)
#: Words found anywhere in a text: some scripts have no spaces, Arabic and Hebrew join the article to the word, and some
#: languages say it in two words.
ANYWHERE: dict[Phase, tuple[str, ...]] = {
    "inspiration": (
        "吸气", "吸氣", "吸気", "吸末", "吸相", "深吸", "흡기", "들숨", "شهيق", "שאיפה", "หายใจเข้า",
        "nefes al", "hit vao",
    ),
    "expiration": (
        "呼气", "呼氣", "呼気", "呼末", "呼相", "호기", "날숨", "زفير", "נשיפה", "หายใจออก",
        "nefes ver", "tho ra",
    ),
}  # fmt: skip
#: Words that are prepositions in many languages: they count only as labels (`_labels`) and if nothing else is said.
WEAK: dict[Phase, frozenset[str]] = {
    "inspiration": frozenset({"in"}),
    "expiration": frozenset({"ex", "out", "aus"}),
}
#: Abbreviations that mean a lung volume only beside words about lungs: "RV/LV ratio" is about the heart.
VOLUMES: dict[Phase, frozenset[str]] = {"inspiration": frozenset(), "expiration": frozenset({"rv"})}
#: "In-/Exspiration", "Ein- und Ausatmung", "in- en uitademing": both, and the first of the two is cut short.
BOTH = re.compile(
    r"(?<![^\W_])(?:(?:in|ein)-?\s*(?:[/+&|]|(?:und|u|and|et|y|e|en|og|och|i|ve)(?!\w)\.?)\s*-?\s*(?:e[xks]|aus|uit|ut|ud)"
    r"|(?:ex|aus|uit)-?\s*(?:[/+&|]|(?:und|u|and|et|y|e|en|og|och|i|ve)(?!\w)\.?)\s*-?\s*(?:in|ein))"
)
HEART = frozenset({
    "lv", "la", "ra", "ratio", "heart", "cardiac", "coronary", "ventricle", "ventricular", "triphasic", "cta", "ctpa",
    "pulmonary", "embolism", "pe", "rvot", "strain", "herz", "coeur", "function",
})  # fmt: skip
#: Percent of a breathing cycle in a text of a 4D series: "T=50%", "Gated, 50.0%", "50.0%A", "CT 50 % Ex", "phase 30%".
PERCENT_TEXT = re.compile(r"(?<![\d.,])(\d{1,3}(?:[.,]\d+)?)\s?%\s*([A-Za-z]*)")
#: Words beside which a percentage is not one of the breathing cycle: contrast, reconstruction, dose.
NOT_BREATHING = frozenset({
    "asir", "asirv", "iterative", "adaptive", "safire", "admire", "idose", "veo", "ss", "dose", "rr", "bpm", "ecg",
    "arterial", "venous", "portal", "arteriell", "venos", "delay", "delayed", "sec", "cardiac", "heart", "diast",
    "syst", "diastole", "systole", "herz", "coronary", "bestdiast", "bestsyst", "cta",
})  # fmt: skip
#: The same without a percent sign: "4D_case1_T50", "Phase 50", "CT_70_Ex". Two digits, and T10 is a vertebra.
BARE_PHASE = re.compile(
    r"(?i)(?<![^\W_])(?:T=?(?=0?0|[2-9]0)|(?:phase|ph|gated|resp|4D(?:CT)?)[\s_,=-]*)(0|00|[1-9]0|100)(?:\.0)?(?![\d.,]*\s?(?:%|mm))(?![^\W_])"
)
BARE_AMPLITUDE = re.compile(r"(?i)(?<![^\W_])(?<![\d.,])(0|[1-9]0|100)[\s_]*(in|ex)(?![^\W_])")
#: Siemens counts amplitudes: "100% In" and "0% Ex" are the ends of the breath.
AMPLITUDE: dict[tuple[str, float], Phase] = {("in", 100): "inspiration", ("ex", 0): "expiration"}
#: What is said of a phase of a 4D series that cannot be part of a pair.
NEITHER = "is neither end of the breath"


def phase_of(
    code: str, percent: float | None, texts: Sequence[str], rules: PairingRules
) -> tuple[Phase | None, str]:
    """Return the phase that headers claim, by the strongest evidence they hold, and that evidence.

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
        end = _of_share(percent)
        return end, f"respiratory phase {percent:g} %" + ("" if end else f" {NEITHER}")
    for name, text in zip(TEXTS, texts, strict=False):
        if (share := percent_named(text)) is not None:
            end, words = share
            return end, f"{name} '{text}' names {words}" + ("" if end else f", which {NEITHER}")
        phases = phases_named(text, rules)
        if len(phases) > 1:
            return None, f"{name} '{text}' names both phases"
        if phases:
            return phases.pop(), f"{name} '{text}'"
    return None, "no code, percentage or text names a phase"


def phases_named(text: str, rules: PairingRules) -> set[Phase]:
    """Return the phases that a text names.

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
    words, folded = _words(text), plain(text)
    phases: tuple[Phase, ...] = ("inspiration", "expiration")
    if BOTH.search(folded):
        return set(phases)
    telling = {word for word in words if not word.startswith(OTHER_STEMS)}
    strong = {
        phase
        for phase in phases
        if any(w in WORDS[phase] | site[phase] or w.startswith(STEMS[phase]) for w in telling)
        or any(sign in text or sign in folded for sign in ANYWHERE[phase])
    }
    if not words & HEART:
        strong |= {phase for phase in phases if words & VOLUMES[phase]}
    labels = _labels(text)
    return strong or {phase for phase in phases if labels & WEAK[phase]}


def percent_named(text: str) -> tuple[Phase | None, str] | None:
    """Return the one percentage of the breathing cycle that a 4D series' text names, as a phase and in words.

    Examples
    --------
    >>> percent_named("Gated, 50.0%")
    ('expiration', 'phase 50 %')
    >>> percent_named("20.0%")
    (None, 'phase 20 %')
    >>> percent_named("ASiR 40%") is None
    True
    """
    found = _share_named(text)
    if found is None:
        return None
    share, word = found
    if word in ("in", "ex"):
        return AMPLITUDE.get((word, share)), f"amplitude {share:g} % {word}"
    if phases_named(word, PairingRules()):  # "100% Exsp": all of it
        return None if share in (0, 100) else (None, f"amplitude {share:g} % {word}")
    if phases_named(PERCENT_TEXT.sub(" ", text), PairingRules()):
        return None
    return _of_share(share), f"phase {share:g} %"


def share_of_cycle(percent: float | None, texts: Sequence[str]) -> float | None:
    """Return the percentage of the breathing cycle that headers give to a phase of a 4D series; None for no such phase.

    Parameters
    ----------
    percent, texts
        As in `phase_of`.
    """
    if percent is not None:
        return percent
    named = next((text for text in texts if (percent_named(text) or (None, ""))[1].startswith("phase")), "")
    found = _share_named(named)
    return found[0] if found else None


def _share_named(text: str) -> tuple[float, str] | None:
    """Return the one percentage of a text that may be of a breath, and the word that follows it."""
    found = _shares(unicodedata.normalize("NFKC", text))
    if len(found) != 1 or found[0][0] > 100 or _words(text) & NOT_BREATHING:
        return None
    return found[0]


def _shares(text: str) -> list[tuple[float, str]]:
    """Return each percentage of a breath in a text, and the word that follows it."""
    found = [(float(number.replace(",", ".")), word.lower()) for number, word in PERCENT_TEXT.findall(text)]
    found = found or [(float(number), word.lower()) for number, word in BARE_AMPLITUDE.findall(text)]
    return found or [(float(number), "") for number in BARE_PHASE.findall(text)]


def _of_share(share: float) -> Phase | None:
    return next((phase for centre, phase in PERCENT if abs(share - centre) <= PERCENT_WIDTH), None)


def plain(text: str) -> str:
    """Return a text in lower case, without accents."""
    folded = unicodedata.normalize("NFKD", text).casefold().replace("ø", "o").replace("ł", "l")
    return "".join(c for c in folded if not unicodedata.combining(c))


def _words(text: str) -> set[str]:
    """Return the words of a text: runs of letters, whole ("iBHCT") and split at camel case ("ThoraxInsp")."""
    runs = re.findall(r"[^\W\d_]+", text)
    parts = [p for run in runs for p in re.findall(r"[A-Z]?[^\WA-Z\d_]+|[A-Z]+(?![a-z])", run)]
    # An accent is dropped after the split, so that "Inspiración" stays one run.
    return {plain(w) for w in (*runs, *parts)}


def _labels(text: str) -> set[str]:
    """Return weak words used as labels: at the end, beside a number, or joined to another ("IN/EX", "in + out").

    A preposition before a noun is not a label.
    """
    tokens = re.findall(r"[^\W\d_]+|\d+(?:[.,]\d+)?", text)
    joined = {
        plain(word)
        for pair in re.findall(
            r"(?i)(?<![^\W_])(in|ex|out|aus)\s*[/+&,|_-]\s*(in|ex|out|aus)(?![^\W_])", text
        )
        for word in pair
    }
    found = set(joined)
    for n, token in enumerate(tokens):
        capital = token[:1].isupper()
        after_number = n > 0 and tokens[n - 1][0].isdigit()
        before_number = n + 1 < len(tokens) and tokens[n + 1][0].isdigit()
        if n + 1 == len(tokens) or after_number or (capital and before_number):
            found.add(plain(token))
    return found
