"""The captures with patient and date written into each picture, for those who ask for them (PS3.3 C.7.6.1.1.8)."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset

from .captures import build_captures, build_summary
from .kinds import Making


def build(making: Making) -> Iterator[Dataset]:
    """Make summary and slices as `captures` does, each with Burned In Annotation (0028,0301) YES."""
    yield build_summary(making.analysis, making.case, named=True)
    yield from build_captures(making.analysis, making.case, making.load_ct(), named=True)
