"""Text that others sent -> text that cannot act on a terminal, a log or a page: every sign is one that is printed.

An AE title, a UID or a sentence with such a value in it may hold a line break, which forges a log line, or ESC, with
which a terminal takes commands. They stay readable: ``\\n``, ``\\x1b``.
"""

from __future__ import annotations

import logging

#: Longer text is cut; no value that is told of is longer.
LONGEST = 4000


def printable(text: str) -> str:
    r"""Return `text` on one line, each character that is not printed written as Python writes it.

    Unicode's separators, controls, formats (which reorder text), surrogates and private characters are not printed;
    the space is. What is longer than `LONGEST` characters ends in "…".

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
    """A formatter of records in one line each; lines of a trace are indented, so that none looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record, with its message made printable."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        """Return a trace; the message of an exception may hold what a sender wrote."""
        trace: str = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join(f"    {printable(line)}" for line in trace.split("\n"))
