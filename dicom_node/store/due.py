"""A column of due times -> the condition under which its row is due now, whatever the clock did meanwhile."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def is_due(column: Any, now: float, furthest: Any) -> sa.ColumnElement[bool]:
    """Return the condition that a due time has come.

    A time further ahead than this software ever sets one can only come of a clock that was set back meanwhile: the row
    is due then, too, instead of waiting until the clock is where it was.

    Parameters
    ----------
    column : ColumnElement of float
        Seconds since 1970.
    now : float
        Seconds since 1970.
    furthest : float or ColumnElement of float
        The furthest ahead such a time is ever set (s).
    """
    return sa.or_(column <= now, column > now + furthest)
