"""Headers, in any order -> Series in the order of space, or why not (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from ..dicom.attributes import named
from ..model import ACQUISITION, Assembled, Header, PairingRules, Phase, Refusal, Series, Slice
from .members import Member, NoStack, place
from .partition import stacks_of
from .series import named_phase, series_of

#: How many refused parts of one series get a sentence of their own.
MOST_REASONS = 3
#: Largest share of a series' slices that may be there twice, the same but for their UID.
FEW_AGAIN = 0.1


def assemble(headers: Iterable[Header], rules: PairingRules | None = None) -> Assembled:
    """Sort the slices of some instances into stacks.

    Geometry decides: slices that are evenly spaced and of which none repeats are one stack, whatever the scanner
    counts as an acquisition. What differs in orientation, matrix, pixel spacing, kernel or phase is never mixed. Where
    positions repeat or slices are missing, `SPLIT_BY` says what may tell stacks apart. Order of arrival, file names
    and instance numbers do not matter.

    Parameters
    ----------
    headers : iterable of Header
        Of one study or of several; the same instance twice counts once.
    rules : PairingRules, optional
        The site's words for the phases.

    Returns
    -------
    Assembled
        Stacks whose slices are evenly spaced along row x column, ascending; and what was refused, and why:
        missing or uneven slices, repeated positions, gantry tilt, less than 20 slices or 100 mm, no geometry.
    """
    rules = rules or PairingRules()
    by_series: dict[tuple[str, str], dict[str, Header]] = defaultdict(dict)
    for header in headers:
        by_series[header.study_instance_uid, header.series_instance_uid][header.sop_instance_uid] = header
    series: list[Series] = []
    refused: list[Refusal] = []
    for (_, uid), found in sorted(by_series.items()):
        members = [found[key] for key in sorted(found)]
        odd = _unusable(members)
        once, twice = _once([Member(h, s) for h in members for s in h.slices])
        refused += [Refusal(uid, reason) for reason in odd]
        stacks = stacks_of(once, rules)
        parts: list[Refusal] = []
        for stack in stacks:
            try:
                one = series_of(stack, rules)
                series.append(replace(one, notes=(*one.notes, *(f"Left out: {o}." for o in odd), *twice)))
            except NoStack as error:
                phase, reason = named_phase(stack, rules)[0], f"{_differs(stack, stacks)}{error}"
                parts.append(Refusal(uid, reason, error.incomplete, phase))
        refused += _grouped(parts)
    return Assembled(tuple(series), tuple(refused))


def _once(members: list[Member]) -> tuple[list[Member], list[str]]:
    """Return the slices without the few that came again under another UID, and a sentence about these.

    Where more than `FEW_AGAIN` of the slices are there twice, they may be two reconstructions: all are kept.
    """
    first: dict[tuple[Header, Slice], Member] = {}
    for m in members:
        same = replace(m.header, sop_instance_uid="", slices=()), replace(m.slice, sop_instance_uid="")
        first.setdefault(same, m)
    again = len(members) - len(first)
    if not 0 < again <= FEW_AGAIN * len(members):
        return members, []
    where = place(next(m for m in members if m not in first.values()))
    uid = named("SOPInstanceUID")
    return list(first.values()), [
        f"Left out: {again} slice{'s' * (again > 1)} that came twice under different {uid}, first at {where}."
    ]


def _grouped(parts: list[Refusal]) -> list[Refusal]:
    """Return a few refusals that sum up many of one series."""
    if len(parts) <= MOST_REASONS:
        return parts
    more = f"and {len(parts) - MOST_REASONS} more parts of it, likewise refused"
    incomplete = any(part.incomplete for part in parts[MOST_REASONS:])
    return [*parts[:MOST_REASONS], Refusal(parts[0].series_instance_uid, more, incomplete)]


def with_assigned(assembled: Assembled, phases: Mapping[str, str]) -> Assembled:
    """Apply an operator's choice by Series Instance UID: a phase, or "none" for a series to leave out of pairs."""
    series = []
    for one in assembled.series:
        phase = phases.get(one.series_instance_uid)
        if phase in ("inspiration", "expiration"):
            one = replace(one, phase=cast(Phase, phase), evidence="assigned by an operator")
        if phase != "none":
            series.append(one)
    return replace(assembled, series=tuple(series))


def _unusable(headers: Sequence[Header]) -> list[str]:
    """Return which instances of CT series cannot be used, and why; other series are not mentioned.

    An instance without geometry is reported; whether a slice is then missing follows from the other positions.
    """
    broken = sorted({h.ignored for h in headers if h.ignored.startswith("no ")})
    if broken:
        more = f" (and {len(broken) - 1} more like it)" if len(broken) > 1 else ""
        return [broken[0] + more]
    if any(h.slices for h in headers):
        return []
    return sorted({h.ignored for h in headers if h.concerns_pairing})


def _differs(stack: Sequence[Member], stacks: Sequence[Sequence[Member]]) -> str:
    """Return what tells this stack from the others of its series: "acquisition 2, kernel B70f: "."""
    if len(stacks) < 2:
        return ""
    names = []
    for n, name in enumerate(ACQUISITION):
        own = {m.slice.acquisition[n] for m in stack}
        others = {m.slice.acquisition[n] for s in stacks for m in s}
        if len(own) == 1 < len(others):
            names.append(f"{name} {own.pop() or 'none'}")
    return f"{', '.join(names)}: " if names else ""
