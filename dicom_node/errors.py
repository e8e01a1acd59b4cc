"""The errors of the node, split by what to do next.

NodeError
├── Rejected      bad data or bad settings: say why, never retry
└── Unavailable   a peer, the disk or the database cannot be reached: retry later

Anything else is a bug: it is logged with its trace and the job is FAILED.
"""

from __future__ import annotations


class NodeError(Exception):
    """Base of all errors this package raises on purpose."""


class Rejected(NodeError):
    """Bad data or bad settings; the message names the thing. Never retried."""


class Unavailable(NodeError):
    """Something that may come back: a peer, the disk, the database. Retried later."""
