"""A storage -> the lock that says who uses it: one node on SQLite, or several on one PostgreSQL.

The lock is held by the processes that receive, too, and ends with the last of them, however they end.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from ..errors import Rejected, Unavailable
from ..settings.layout import Layout
from .durable import FILE_MODE, make_folder

#: Time to wait for the acceptors of a killed node, which outlive it for a moment (s).
LOCK_SECONDS = 3.0
#: Time to wait for another node that is starting on the same storage (s).
SHARE_SECONDS = 60.0


class StorageLock:
    """The lock of a storage, held from the moment that this object is made.

    Parameters
    ----------
    layout : Layout
    shared : bool
        True where other nodes of the same database may use the storage, too.

    Attributes
    ----------
    alone : bool
        Whether no other node used the storage when this one came.

    Raises
    ------
    Unavailable
        Where another node uses the storage, or it lies on a file system without locks.
    """

    def __init__(self, layout: Layout, shared: bool) -> None:
        self._storage = make_folder(layout.storage)
        self.descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT, FILE_MODE)
        end = time.monotonic() + (SHARE_SECONDS if shared else LOCK_SECONDS)
        while True:
            if self._take(fcntl.LOCK_EX):
                self.alone = True
                return
            if shared and self._take(fcntl.LOCK_SH):
                self.alone = False
                return
            if time.monotonic() > end:
                os.close(self.descriptor)
                raise Unavailable(_in_use(layout.storage, shared))
            time.sleep(0.05)

    def share(self, database: str) -> None:
        """Let other nodes of the same database use the storage, too.

        Parameters
        ----------
        database : str
            Identity of the database.

        Raises
        ------
        Rejected
            Where the nodes that use the storage have another database: they would give the same numbers to jobs.
        """
        if self.alone:
            os.truncate(self.descriptor, 0)
            os.pwrite(self.descriptor, database.encode(), 0)
            fcntl.flock(self.descriptor, fcntl.LOCK_SH)
        if os.pread(self.descriptor, 64, 0).decode() != database:
            raise Rejected("the nodes that use this storage have another database")

    def close(self) -> None:
        """Give up the lock."""
        os.close(self.descriptor)

    def _take(self, how: int) -> bool:
        try:
            fcntl.flock(self.descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:  # NFS whose server or mount has no locks: ENOLCK, EOPNOTSUPP
            os.close(self.descriptor)
            why = f"the storage {self._storage} cannot be locked: {error.strerror}"
            raise Unavailable(f"{why}; a mount must have locks that all machines see") from error
        return True


def _in_use(storage: Path, shared: bool) -> str:
    return f"another node uses the storage {storage}" + (
        ", on another database"
        if shared
        else ": a node on SQLite is alone on it; several nodes need PostgreSQL"
    )
