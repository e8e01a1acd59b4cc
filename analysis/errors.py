"""What can go wrong in an analysis, split by what to do next.

AnalysisError
└── Rejected            the input can not give a valid result: say why, never retry
    └── QualityRejected a quality check failed; carries the findings
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .quality import Finding


class AnalysisError(Exception):
    """Base of all errors this package raises on purpose."""


class Rejected(AnalysisError):
    """The input cannot give a valid result; the message names the thing."""


class QualityRejected(Rejected):
    """At least one quality check failed (verdict ``fail``)."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        failed = [f.sentence for f in findings if f.verdict == "fail"]
        super().__init__("; ".join(failed))

    def __reduce__(self) -> tuple[type[QualityRejected], tuple[tuple[Finding, ...]]]:
        return type(self), (self.findings,)
