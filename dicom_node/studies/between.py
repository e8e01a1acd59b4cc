"""A study without a pair -> the pair that it makes with another study of the same examination."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..model import Assembled, Header, Pair, PairingRules
from ..pairing.between_studies import same_patient
from ..pairing.pairing import NoPair, pair
from ..pairing.stacks import assemble, with_assigned

#: Returns the headers of a study, all of them or at most a given number.
Headers = Callable[[str, int | None], list[Header]]


@dataclass(frozen=True)
class Asked:
    """Hold a study that has no pair of its own, and where to look for its other phase.

    Parameters
    ----------
    study_uid : str
    others : sequence of str
        Studies that may belong to the same examination; patient, time and Frame of Reference or device must agree.
    joined : sequence of str
        Studies that an operator joined with this one; only the patient must be the same.
    overdue : bool
        True once nothing more is waited for: an incomplete stack then keeps no other study's series out.
    """

    study_uid: str
    others: Sequence[str] = ()
    joined: Sequence[str] = ()
    overdue: bool = False


def pair_between(
    asked: Asked, headers: Headers, rules: PairingRules, assigned: Mapping[str, str]
) -> Pair | NoPair | None:
    """Return the pair whose phases lie in this study and in another one.

    Parameters
    ----------
    asked : Asked
    headers : callable
    rules : PairingRules
    assigned : mapping of Series Instance UID to phase

    Returns
    -------
    Pair, NoPair or None
        NoPair only where an operator joined studies of two patients; None where no pair is found.
    """
    own = headers(asked.study_uid, None)
    for other in asked.joined:
        found = _decide(assemble([*own, *headers(other, None)], rules), rules, assigned, as_one=True)
        if isinstance(found, Pair) or found.people:
            return found
    if not own or rules.between_studies_minutes == 0 or (not asked.overdue and _may_complete(own, rules)):
        return None
    for other in asked.others:
        first = headers(other, 1)
        if not first or not same_patient((own[0].person,), (first[0].person,)):
            continue
        its = headers(other, None)
        if not asked.overdue and _may_complete(its, rules):
            continue
        found = _decide(assemble([*own, *its], rules), rules, assigned, as_one=False)
        if isinstance(found, Pair) and _both(found):
            return found
    return None


def _may_complete(headers: Sequence[Header], rules: PairingRules) -> bool:
    """Return whether images still to come may give a study the phase that it lacks.

    A stack of that phase with a gap, or that has only begun, is worth waiting for. What no image can mend (a localizer,
    a tilted gantry) or is another reconstruction of the phase that is there keeps no other study's series out.
    """
    found = assemble(headers, rules)
    here = {series.phase for series in found.series} - {None}
    return any(part.incomplete and part.phase not in here for part in found.refused)


def _decide(
    assembled: Assembled, rules: PairingRules, assigned: Mapping[str, str], *, as_one: bool
) -> Pair | NoPair:
    assembled = with_assigned(assembled, assigned)
    if not as_one or not assembled.series:
        return pair(assembled, rules)
    study_of = {s.series_instance_uid: s.study_instance_uid for s in assembled.series}
    one = assembled.series[0].study_instance_uid
    series = tuple(replace(s, study_instance_uid=one) for s in assembled.series)
    found = pair(replace(assembled, series=series), rules)
    if isinstance(found, NoPair):
        return found
    insp, exp = (
        replace(s, study_instance_uid=study_of[s.series_instance_uid])
        for s in (found.inspiratory, found.expiratory)
    )
    return replace(found, inspiratory=insp, expiratory=exp)


def _both(found: Pair) -> bool:
    return found.inspiratory.study_instance_uid != found.expiratory.study_instance_uid
