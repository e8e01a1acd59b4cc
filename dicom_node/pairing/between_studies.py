"""Two series of different studies -> whether they are one examination, as where each breath-hold is its own study."""

from __future__ import annotations

from datetime import datetime

from ..model import PairingRules, Person, Series


def belong(a: Series, b: Series, rules: PairingRules) -> bool:
    """Return whether two series are of one patient, close in time, in one Frame of Reference or on one device.

    Parameters
    ----------
    a, b : Series
        Of different studies.
    rules : PairingRules
        They say how far apart in time the series may lie.
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
    """Return whether two studies give the same Patient ID, with nothing against it."""
    ids = {person.patient_id for person in (*some, *others)}
    return len(ids) == 1 and "" not in ids


def _time(acquired: str) -> datetime | None:
    """Return when a series was acquired, to the second; None where not even the minute is known."""
    text = acquired[:14]
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S" if len(text) == 14 else "%Y%m%d%H%M")
    except ValueError:
        return None
