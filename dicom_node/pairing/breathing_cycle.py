"""The phases of a 4D study -> those nearest to the ends of the breath, named so where none lies on an end (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..model import Phase, Series

#: Fewer different percentages are no 4D study.
LEAST_PHASES = 4
#: A phase further from the end of the breath than this is not taken for it (percent of the cycle).
FURTHEST = 10.0
#: The ends of the breath (percent of the cycle, counted from the maximum of inspiration).
ENDS: tuple[tuple[Phase, tuple[float, ...]], ...] = (("inspiration", (0.0, 100.0)), ("expiration", (50.0,)))


def with_ends(series: Sequence[Series]) -> list[Series]:
    """Return the series, with a phase for those of a 4D study that lie nearest to an end of the breath.

    Five phases of 0, 20, 40, 60 and 80 % have none at 50 %: those of 40 and 60 % are proposed as expiration.

    Parameters
    ----------
    series : sequence of Series
    """
    shares = {one.cycle for one in series if one.cycle is not None}
    found = list(series)
    if len(shares) < LEAST_PHASES:
        return found
    for phase, centres in ENDS:
        if any(one.phase == phase for one in found):
            continue
        off = {share: min(abs(share - centre) for centre in centres) for share in shares}
        nearest = min(off.values())
        taken = {share for share in shares if off[share] == nearest <= FURTHEST}
        found = [_named(one, phase, len(shares)) if one.cycle in taken else one for one in found]
    return found


def _named(one: Series, phase: Phase, count: int) -> Series:
    if one.phase is not None:
        return one
    evidence = f"phase {one.cycle:g} %, of {count} phases the nearest to the end of {phase}"
    return replace(one, phase=phase, evidence=evidence)
