"""A study without a pair -> the pair that it makes with another study of the same examination."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..model import Assembled, Header, Pair, PairingRules
from ..pairing.between_studies import same_patient
from ..pairing.pairing import NoPair, pair
from ..pairing.stacks import assemble, with_assigned

#: Returns the headers of a study, all of them or at most a given number.
Headers = Callable[[str, int | None], list[Header]]


def pair_between(
    study_uid: str,
    headers: Headers,
    others: Sequence[str],
    joined: Sequence[str],
    rules: PairingRules,
    assigned: Mapping[str, str],
) -> Pair | NoPair | None:
    """Return the pair whose phases lie in this study and in another one.

    Parameters
    ----------
    study_uid : str
    headers : callable
    others : sequence of str
        Studies that may belong to the same examination; patient, time and Frame of Reference or device must agree.
    joined : sequence of str
        Studies that an operator joined with this one; only the patient must be the same.
    rules : PairingRules
    assigned : mapping of Series Instance UID to phase

    Returns
    -------
    Pair, NoPair or None
        NoPair only where an operator joined studies of two patients; None where no pair is found.
    """
    own = headers(study_uid, None)
    for other in joined:
        found = _decide(assemble([*own, *headers(other, None)], rules), rules, assigned, as_one=True)
        if isinstance(found, Pair) or found.people:
            return found
    if not own or rules.between_studies_minutes == 0 or assemble(own, rules).refused:
        return None  # what is incomplete here may still come: no other study's series stands for it
    for other in others:
        first = headers(other, 1)
        if first and same_patient((own[0].person,), (first[0].person,)):
            found = _decide(assemble([*own, *headers(other, None)], rules), rules, assigned, as_one=False)
            if isinstance(found, Pair) and _both(found):
                return found
    return None


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
