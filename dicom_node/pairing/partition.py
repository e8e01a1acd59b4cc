"""The slices of a series -> groups that may each be one stack: geometry first, then what the scanner counts (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from ..model import PairingRules, Slice
from .members import Member, NoStack, along
from .phase_names import phase_of
from .series import MIN_SLICES, series_of

#: Two orientations (direction cosines), or two pixel spacings (mm), this close count as equal.
SAME = 1e-3
#: What tells stacks apart where positions repeat or slices are missing, in the order in which it is tried.
SPLIT_BY: tuple[Callable[[Member], object], ...] = (
    lambda m: m.acquired_as("temporal position"),
    lambda m: m.acquired_as("acquisition"),
    lambda m: m.acquired_as("image type"),
    lambda m: m.header.texts,
    lambda m: m.slice.thickness,
    lambda m: m.acquired_as("kernel"),
    lambda m: m.acquired_as("respiratory phase"),
)
#: A partition into more parts than this is not used.
MOST_PARTS = 64


def stacks_of(members: Sequence[Member], rules: PairingRules) -> list[list[Member]]:
    """Group slices that may form one stack: same kernel, phase, matrix, and (but for rounding) orientation, spacing.

    A slice that leaves out its kernel or phase belongs to the only one that the others name.
    """
    exact: dict[tuple[object, ...], list[Member]] = defaultdict(list)
    named = _named_phases(members, rules)
    only = {name: _only({m.acquired_as(name) for m in members}) for name in ("kernel", "respiratory phase")}
    for m in sorted(members, key=lambda m: (m.slice.orientation, m.slice.spacing, m.slice.position, _key(m))):
        kernel, percent = (m.acquired_as(name) or value for name, value in only.items())
        said = m.header.phase_code, named.get(m.header.texts, "")
        exact[(kernel, percent, m.slice.rows, m.slice.columns, *said)].append(m)
    stacks: list[list[Member]] = []
    for _, group in sorted(exact.items(), key=lambda item: tuple(map(str, item[0]))):
        own: list[list[Member]] = []
        for m in group:
            near = (s for s in own if _close(s[0].slice, m.slice))
            stack = next(near, None)
            if stack is None:
                own.append([m])
            else:
                stack.append(m)
        for stack in own:
            stacks += _parted(stack, SPLIT_BY, rules)
    return stacks


def _only(values: set[str]) -> str:
    """Return the only value that is not empty, or "" where there are several or none."""
    given = values - {""}
    return given.pop() if len(given) == 1 else ""


def _named_phases(members: Sequence[Member], rules: PairingRules) -> dict[tuple[str, ...], str]:
    """Return the phase that each slice's texts name, where a series holds both."""
    texts = {m.header.texts for m in members}
    found: dict[tuple[str, ...], str] = {one: phase_of("", None, one, rules)[0] or "" for one in texts}
    return found if {"inspiration", "expiration"} <= set(found.values()) else {}


def _parted(
    stack: list[Member], keys: Sequence[Callable[[Member], object]], rules: PairingRules
) -> list[list[Member]]:
    """Return the partition that leaves most slices in whole stacks; of equals, the coarsest."""
    if len(stack) < MIN_SLICES or (_whole(stack, rules) and not _two_scans(stack, rules)):
        return [stack]
    options = [] if _two_scans(stack, rules) else [[stack]]
    for n, key in enumerate(keys):
        parts = _by(key, stack)
        if 1 < len(parts) <= MOST_PARTS:
            others = (*keys[:n], *keys[n + 1 :])
            options.append([p for part in parts for p in _parted(part, others, rules)])
    whole = [sum(len(p) for p in option if _whole(p, rules)) for option in options]
    best = max(range(len(options)), key=lambda n: (whole[n], -len(options[n]), -n))
    return options[best]


def _by(key: Callable[[Member], object], stack: Sequence[Member]) -> list[list[Member]]:
    parts: dict[object, list[Member]] = defaultdict(list)
    for m in stack:
        parts[key(m)].append(m)
    return [parts[k] for k in sorted(parts, key=str)]


def _whole(stack: list[Member], rules: PairingRules) -> bool:
    try:
        series_of(stack, rules)
    except NoStack:
        return False
    return True


def _two_scans(stack: list[Member], rules: PairingRules) -> bool:
    """Return whether a stack is two interleaved acquisitions, each a whole stack: two breath-holds, not one."""
    parts = _by(SPLIT_BY[1], stack)
    if len(parts) != 2 or not all(len(p) >= MIN_SLICES and _whole(p, rules) for p in parts):
        return False
    (low, high), (start, end) = ((float(a.min()), float(a.max())) for a in (along(p)[0] for p in parts))
    return min(high, end) - max(low, start) > 0


def _key(m: Member) -> tuple[str, int]:
    return m.slice.sop_instance_uid, m.slice.frame


def _close(a: Slice, b: Slice) -> bool:
    return bool(
        np.allclose(a.orientation, b.orientation, rtol=0, atol=SAME)
        and np.allclose(a.spacing, b.spacing, rtol=0, atol=SAME)
    )
