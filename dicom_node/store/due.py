"""A column of due times -> the condition that its row is due now, even where the clock was changed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def is_due(column: Any, now: float, furthest: Any) -> sa.ColumnElement[bool]:
    """Return the SQL condition that a due time has come.

    A due time further ahead than this software ever sets means that the clock was set back. The row is then due at
    once, instead of waiting until the clock has caught up.

    Parameters
    ----------
    column : ColumnElement of float
        Due times (s since 1970).
    now : float
        Current time (s since 1970).
    furthest : float or ColumnElement of float
        Longest time ahead that such a due time is ever set (s).
    """
    return sa.or_(column <= now, column > now + furthest)
