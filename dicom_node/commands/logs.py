"""The log of the node: UIDs and numbers of jobs on stderr, never patient data.

Child processes of the node call this too. It imports no library, because a process that receives must stay small.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from datetime import UTC, datetime

from ..printable import PrintableFormatter, printable

#: The loggers whose lines are all logged; of other libraries only errors are.
OWN = frozenset({"dicom_node", "analysis"})
#: Libraries that log the values of attributes, or every association, even as errors: only what is critical is kept.
TALKATIVE = frozenset({"pydicom", "pynetdicom", "highdicom", "apscheduler"})


def _kept(record: logging.LogRecord) -> bool:
    """Return whether a record is kept. A library's own level would not do: pydicom sets it when it is imported."""
    name = record.name.split(".")[0]
    least = logging.CRITICAL if name in TALKATIVE else logging.NOTSET if name in OWN else logging.ERROR
    return record.levelno >= least


class JsonFormatter(logging.Formatter):
    """Formats each record as one JSON object on a line, for collectors of logs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record: time, level, logger, message, and a trace where there is one."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": printable(record.getMessage()),
        }
        if record.exc_info:
            line["trace"] = PrintableFormatter().formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(level: str = "info", as_json: bool = False) -> None:
    """Log to stderr.

    Parameters
    ----------
    level : str
        Least level that is logged: debug, info, warning or error.
    as_json : bool
        True for an object a line, else text.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if as_json else text)
    handler.addFilter(_kept)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    warnings.simplefilter("ignore")
