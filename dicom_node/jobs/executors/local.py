"""``engine = "local"``: each order in a child process of the node."""

from __future__ import annotations

from collections.abc import Callable

from ...processes import Crew
from ...settings.config import JobSettings
from ..order import Order
from .executor import Executor


def make(settings: JobSettings, run: Callable[[Order], None]) -> Executor:
    """Return an engine that runs orders in processes of this machine, within the limits of the settings."""
    return Crew(run, settings.concurrency, 60 * settings.max_minutes)
