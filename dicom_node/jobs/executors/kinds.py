"""Which file works on jobs, by the name of `[jobs] engine`. A new engine is a file and a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...settings.config import JobSettings
from ..order import Order
from . import dask, local
from .executor import Executor

#: An engine, from the settings and the function that works on an order in a process of its own.
Maker = Callable[[JobSettings, Callable[[Order], None]], Executor]

ENGINES: Mapping[str, Maker] = {"local": local.make, "dask": dask.make}
