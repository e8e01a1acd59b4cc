"""What runs and what changed -> every browser that is open, as server-sent events, read once for all of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from ..errors import Unavailable
from ..store.tables import delivery, job, study
from ..strict_json import encode
from .problems import TooMany
from .site import Site

#: Interval at which the database is read while a page is open (s), and most pages that are open.
SECONDS, LISTENERS = 1.0, 100


class Live:
    """Tells open pages what runs; each event says whether anything else changed, so that a page loads itself again."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._listeners: set[asyncio.Queue[str | None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def events(self) -> AsyncIterator[str]:
        """Yield events until the page stops or the browser goes.

        Raises
        ------
        TooMany
            Where too many pages are open.
        """
        queue: asyncio.Queue[str | None] = asyncio.Queue(4)
        self._listeners.add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._tell())
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._listeners.discard(queue)

    def check(self) -> None:
        """Refuse one more page where too many are open.

        Raises
        ------
        TooMany
            Where there are.
        """
        if len(self._listeners) >= LISTENERS:
            raise TooMany(f"{LISTENERS} pages are open: close one")

    async def _tell(self) -> None:
        """Read and tell while anybody listens; the last event ends every stream, since a stop waits for them."""
        while self._listeners and not self._site.stopped.is_set():
            try:
                event = await run_in_threadpool(self._read)
            except Unavailable:
                event = "event: away\ndata: {}\n\n"
            for queue in list(self._listeners):
                if (
                    not queue.full()
                ):  # a browser that does not read misses events, and the next says all again
                    queue.put_nowait(event)
            for _ in range(10):
                await asyncio.sleep(SECONDS / 10)
                if self._site.stopped.is_set():
                    break
        for queue in list(self._listeners):
            while queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    def _read(self) -> str:
        names = "id", "stage", "fraction"
        with self._site.database.reading() as connection:
            running = sa.select(*(job.c[name] for name in names)).where(job.c.state == "RUNNING")
            jobs = [dict(row._mapping) for row in connection.execute(running.order_by(job.c.id))]
            newest = [
                connection.execute(sa.select(*columns)).one()
                for columns in (
                    (sa.func.max(study.c.received_at),),
                    (sa.func.max(job.c.id),),
                    (sa.func.max(delivery.c.id),),
                )
            ]
            counts = [
                connection.execute(sa.select(column, sa.func.count()).group_by(column)).all()
                for column in (study.c.state, job.c.state)
            ]
            counts += [_open(connection)]
        mark = hashlib.sha256(repr((newest, counts)).encode()).hexdigest()[:16]
        return f"data: {encode({'jobs': jobs, 'mark': mark})}\n\n"


def _open(connection: sa.Connection) -> list[sa.Row[tuple[str, int]]]:
    query = sa.select(delivery.c.state, sa.func.count()).where(delivery.c.state.in_(("QUEUED", "DEAD")))
    return list(connection.execute(query.group_by(delivery.c.state)).all())
