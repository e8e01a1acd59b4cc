"""Text that others sent -> text that cannot act on a terminal, a log or a page: only printable characters.

An AE title or a UID that somebody sent may hold a line break, which forges a log line, or ESC, which begins a command
to a terminal. Such characters are replaced by a readable form: ``\\n``, ``\\x1b``.
"""

from __future__ import annotations

import logging

#: Longer text is cut; no value that belongs in a message is longer (characters).
LONGEST = 4000


def printable(text: str) -> str:
    r"""Return `text` on one line, with escapes as in Python for characters that are not printable.

    Unicode's separators other than the space, controls, formats (which reorder text), surrogates and private
    characters count as not printable. Text longer than `LONGEST` characters is cut and ends in "…".

    Examples
    --------
    >>> printable("CT1\n2026-01-01 INFO forged \x1b[2J")
    'CT1\\n2026-01-01 INFO forged \\x1b[2J'
    >>> printable("Thorax Übersicht")
    'Thorax Übersicht'
    """
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class PrintableFormatter(logging.Formatter):
    """Formats each record as one line, and indents the lines of a trace so that none looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record with a printable message."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        """Return a printable trace, since the message of an exception may quote what a sender wrote."""
        trace: str = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join(f"    {printable(line)}" for line in trace.split("\n"))
