"""Analysis -> its impression in two or three plain sentences: how much, where, how firm. No diagnosis.

Each sentence is the first row of its table whose condition holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..anatomy.regions import LOBES, REGIONS, ZONES_OF
from ..measures.digits import firm_text, text_of
from ..measures.table import FIRM
from ..pipeline.pipeline import Analysis

#: Words of the classes in the impression: they only say what they look like.
LIKE = {"dead_space": "dead-space-like", "shunt": "shunt-like", "matched_defect": "matched defect"}
#: A class leads where it is more than this share of all abnormal lung.
LEADS = 0.5
#: A lung's share of Q or V is told where it differs from its share of volume by more than this, percent points.
UNEVEN = 5.0
#: A fraction stands out where it is more than so many standard uncertainties.
STANDS_OUT = 2.0


@dataclass(frozen=True)
class Rule:
    """Hold a sentence and when it is true."""

    holds: Callable[[Analysis], bool]
    words: Callable[[Analysis], str]


def impression(analysis: Analysis) -> tuple[str, ...]:
    """Return the sentences of the impression, ASCII: how much is abnormal, where, and what limits it."""
    found = (next((rule.words(analysis) for rule in table if rule.holds(analysis)), "") for table in TABLES)
    return tuple(sentence for sentence in found if sentence)


#: Regions that are one zone.
ONE_ZONE = tuple(region for region, parts in ZONES_OF.items() if len(parts) == 1)


def worst_regions(analysis: Analysis, n: int = 3) -> tuple[tuple[str, float], ...]:
    """Return the smallest regions (lobes where they are known, else zones) with the most abnormal lung, worst first.

    Returns
    -------
    tuple of (str, float)
        Name of the region and percent of its classified lung that is abnormal.
    """
    lobes = [region for region in LOBES if region in analysis.measures]
    return _worst_first(analysis, lobes or ONE_ZONE)[:n]


def worst_zones(analysis: Analysis) -> tuple[tuple[str, float], ...]:
    """Return the zones that have abnormal lung, and how much, as `worst_regions` does."""
    return _worst_first(analysis, ONE_ZONE)


def _worst_first(analysis: Analysis, regions: Sequence[str]) -> tuple[tuple[str, float], ...]:
    shares = {region: analysis.measures[region]["total_abnormal"] for region in regions}
    known = [(region, share) for region, share in shares.items() if np.isfinite(share) and share > 0]
    return tuple(sorted(known, key=lambda pair: -pair[1]))


def regions_in_words(regions: Sequence[tuple[str, float]]) -> str:
    """Return regions and their abnormal lung in words."""
    return ", ".join(f"{REGIONS[region].lower()} {text_of(share, '%', 1.0)} %" for region, share in regions)


def _whole(analysis: Analysis, name: str) -> float:
    value = analysis.measures["lungs"].get(name, np.nan)
    return float(value)


def _nothing_classified(analysis: Analysis) -> bool:
    return not np.isfinite(_whole(analysis, "total_abnormal"))


def _stands_out(analysis: Analysis) -> bool:
    total, sd = _whole(analysis, "total_abnormal"), _whole(analysis, "total_abnormal_sd")
    return total > (STANDS_OUT * sd if np.isfinite(sd) else 0.0)


def _leading(analysis: Analysis) -> str:
    total = _whole(analysis, "total_abnormal")
    return next((name for name in LIKE if _whole(analysis, name) > LEADS * total), "")


def _much(analysis: Analysis) -> str:
    row = analysis.measures["lungs"]
    leads = _leading(analysis)
    mostly = f", mostly {LIKE[leads]}" if leads else ", of no leading kind"
    parts = "; ".join(f"{LIKE[name]} {firm_text(row, name, True)}" for name in FIRM if name in LIKE)
    return f"{firm_text(row, 'total_abnormal', True)} of the classified lung is abnormal{mostly}: {parts}."


def _uneven(analysis: Analysis) -> list[str]:
    """Return in words where the right lung's share of V or Q is not that of its volume."""
    row = analysis.measures.get("right", {})
    volume = row.get("share_volume", np.nan)
    return [
        f"{text_of(row[name], '%', 1.0)} % of {letter}"
        for letter, name in (("V", "share_v"), ("Q", "share_q"))
        if abs(row.get(name, np.nan) - volume) > UNEVEN
    ]


def _where(analysis: Analysis) -> str:
    words = f"Most abnormal: {regions_in_words(worst_regions(analysis))}"
    uneven = _uneven(analysis)
    if uneven:
        volume = text_of(analysis.measures["right"]["share_volume"], "%", 1.0)
        words += f"; the right lung, {volume} % of the volume, has {' and '.join(uneven)}"
    return words + "."


def _checks(analysis: Analysis, verdict: str) -> list[str]:
    return list(dict.fromkeys(f.check for f in analysis.findings if f.verdict == verdict))


def _limits(analysis: Analysis, verdict: str, words: str) -> str:
    return f"{words}: {'; '.join(_checks(analysis, verdict))}."


#: How much, where, what limits it: of each table the first row that holds is told.
TABLES: tuple[tuple[Rule, ...], ...] = (
    (
        Rule(_nothing_classified, lambda a: "No lung could be classified."),
        Rule(
            lambda a: not _stands_out(a),
            lambda a: (
                f"No abnormal lung stands out from the uncertainty: "
                f"{firm_text(a.measures['lungs'], 'total_abnormal', True)} in all."
            ),
        ),
        Rule(lambda a: True, _much),
    ),
    (Rule(lambda a: bool(worst_regions(a)) and _stands_out(a), _where),),
    (
        Rule(lambda a: bool(_checks(a, "fail")), lambda a: _limits(a, "fail", "Not to be relied on, failed")),
        Rule(
            lambda a: bool(_checks(a, "warn")),
            lambda a: _limits(a, "warn", "To be read with care for"),
        ),
        Rule(lambda a: bool(a.findings), lambda a: f"All {len(a.findings)} quality checks passed."),
    ),
)
