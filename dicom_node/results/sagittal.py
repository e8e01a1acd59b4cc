"""Sagittal slabs in colour -> Secondary Capture, for those who ask for them."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset

from .coronal import build_slabs
from .kinds import Making


def build(making: Making) -> Iterator[Dataset]:
    """Make the three series."""
    yield from build_slabs(making.analysis, making.case, making.load_ct(), "sagittal")
