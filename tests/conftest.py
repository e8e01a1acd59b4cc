"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a first call may compile; what is slow is no fault here
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real CT data: $VQ_SHARED, or ``shared`` beside the project; without it, a skip."""
    folder = Path(os.environ.get("VQ_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "real-ct").is_dir():
        pytest.skip(f"no real CT data in {folder.name!r}: set VQ_SHARED")
    return folder
