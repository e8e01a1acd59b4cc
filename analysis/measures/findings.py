"""A quality check's Finding: what was measured, its limits, verdict and sentence; and the error of a failed one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import Rejected

Verdict = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """Hold one check: what was measured, its limits, and what it means.

    Parameters
    ----------
    check : str
        Short stable name, e.g. ``"volume ratio"``.
    verdict : {"pass", "warn", "fail"}
    value : float or None
        What was measured; None where the check has no number.
    unit : str
        UCUM unit of `value` (``"1"`` for a ratio, ``"mm"``, ``"ml"``, ``"%"``, ``"[hnsf'U]"``).
    limit : str
        The limits in words, e.g. ``"warn > 0.85, fail >= 0.95"``.
    sentence : str
        The verdict in one sentence a clinician can act on; no patient data.
    """

    check: str
    verdict: Verdict
    value: float | None
    unit: str
    limit: str
    sentence: str


class QualityRejected(Rejected):
    """At least one quality check failed; the message holds the sentences of all that did.

    Parameters
    ----------
    findings : tuple of Finding
    """

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        super().__init__("; ".join(f.sentence for f in findings if f.verdict == "fail"))

    def __reduce__(self) -> tuple[type[QualityRejected], tuple[tuple[Finding, ...]]]:
        return type(self), (self.findings,)


def failed(findings: tuple[Finding, ...]) -> bool:
    """Return whether any check failed."""
    return any(f.verdict == "fail" for f in findings)


def verdict_of(fail: bool, warn: bool) -> Verdict:
    """Return the verdict of the two conditions; fail wins."""
    return "fail" if fail else "warn" if warn else "pass"
