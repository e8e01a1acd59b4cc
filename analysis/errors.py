"""What can go wrong in an analysis, split by what to do next.

AnalysisError
└── Rejected                    the input can not give a valid result: say why, never retry
    └── quality.QualityRejected a quality check failed; carries the findings
"""


class AnalysisError(Exception):
    """Base of all errors this package raises on purpose."""


class Rejected(AnalysisError):
    """The input cannot give a valid result; the message names the thing."""
