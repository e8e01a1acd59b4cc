"""Errors that only a page has, and the HTTP status of every error, in one table.

NodeError
  Rejected            422  the request cannot be done; the sentence says why
    NotThere          404
    Forbidden         403
      NotLoggedIn     401
    Conflict          409  an action that the state of its job or study does not allow
    TooLarge          413
    WrongKind         415
    TooMany           429
  Unavailable         503  disk or database; try again
anything else         500  a bug
"""

from __future__ import annotations

from ..errors import NodeError, Rejected, Unavailable


class NotThere(Rejected):
    """Nothing has this number, UID or name."""


class Forbidden(Rejected):
    """The caller may not do this."""


class NotLoggedIn(Forbidden):
    """The caller did not say who it is, or its session has ended."""


class Conflict(Rejected):
    """The state of what an action is for does not allow it."""


class TooLarge(Rejected):
    """A request is larger than the settings allow."""


class WrongKind(Rejected):
    """A request has another media type than this address takes."""


class TooMany(Rejected):
    """Too many attempts; the caller must wait."""


#: The first row that fits says the status (RFC 9110 15).
STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (NotThere, 404),
    (NotLoggedIn, 401),
    (Forbidden, 403),
    (Conflict, 409),
    (TooLarge, 413),
    (WrongKind, 415),
    (TooMany, 429),
    (Unavailable, 503),
    (NodeError, 422),
)


def status_of(error: Exception) -> int:
    """Return the HTTP status of an error; 500 for a bug."""
    return next((code for kind, code in STATUSES if isinstance(error, kind)), 500)
