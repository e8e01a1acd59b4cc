"""Checks of the pair and of the registration -> findings: pass, warn or fail, and the reason in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One check: what was measured, against what, and what it means.

    Parameters
    ----------
    check : str
        Short stable name, e.g. ``"volume ratio"``.
    verdict : {"pass", "warn", "fail"}
    value : float or None
        What was measured; None where the check has no number.
    unit : str
        UCUM unit of `value` (``"1"`` for a ratio, ``"mm"``, ``"%"``, ``"[hnsf'U]"``).
    limit : str
        The limits in words, e.g. ``"warn > 0.85, fail >= 0.97"``.
    sentence : str
        The verdict in one sentence a clinician can act on; no patient data.
    """

    check: str
    verdict: Verdict
    value: float | None
    unit: str
    limit: str
    sentence: str


def failed(findings: tuple[Finding, ...]) -> bool:
    """True where any check failed."""
    return any(f.verdict == "fail" for f in findings)
