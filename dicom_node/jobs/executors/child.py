"""The process that works on one attempt of a job on the machine of a worker; `watch` starts it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from ...printable import PrintableFormatter
from ...processes import begin
from ...settings.config import read_config
from ..order import order_of
from ..worker import work


def main(job_id: int, attempt: int, path: Path) -> None:
    """Work on one attempt, by the configuration of this machine; standard input closes when it is to end."""
    config = read_config(path)
    order = order_of(config, job_id, attempt, None)
    begin(_log, order.nice, order.memory_mb << 20, parent=sys.stdin.fileno())
    work(order)


def _log() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in ("pydicom", "highdicom"):  # at lower levels these log values of attributes
        logging.getLogger(name).setLevel(logging.CRITICAL)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
