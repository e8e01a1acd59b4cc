"""Two series of different studies -> whether they are one examination: some sites make a study of each breath."""

from __future__ import annotations

from datetime import datetime

from ..model import PairingRules, Person, Series


def belong(a: Series, b: Series, rules: PairingRules) -> bool:
    """Whether two series were taken of one patient, at nearly one time, in one Frame of Reference or on one device.

    Parameters
    ----------
    a, b : Series
        Of different studies.
    rules : PairingRules
        How far apart in time they may lie.
    """
    if not same_patient(a.people, b.people):
        return False
    times = [_time(s.acquired) for s in (a, b)]
    if times[0] is None or times[1] is None:
        return False
    near = abs((times[0] - times[1]).total_seconds()) <= 60 * rules.between_studies_minutes
    frame = bool(a.frame_of_reference) and a.frame_of_reference == b.frame_of_reference
    return near and rules.between_studies_minutes > 0 and (frame or (bool(a.device) and a.device == b.device))


def same_patient(some: tuple[Person, ...], others: tuple[Person, ...]) -> bool:
    """Whether two studies say so themselves: one Patient ID that both give, with nothing against it."""
    ids = {person.patient_id for person in (*some, *others)}
    return len(ids) == 1 and "" not in ids


def _time(acquired: str) -> datetime | None:
    """When a series was acquired, to the second; None where not even the minute is known."""
    text = acquired[:14]
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S" if len(text) == 14 else "%Y%m%d%H%M")
    except ValueError:
        return None
